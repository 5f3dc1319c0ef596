"""Layer 2: the one narrow interface to the world, and its implementations."""
