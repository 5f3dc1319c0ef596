"""Layer 1: the decisions, as pure functions of what is observed, what is desired, and the time."""
