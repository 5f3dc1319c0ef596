"""Work over the pool: to every host at once, or item by item to whoever has room."""
