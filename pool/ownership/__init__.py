"""Who owns a detached pool: its keeper, what an owner leaves for the next, and the owner's side."""
