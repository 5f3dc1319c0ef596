"""Warm capacity: one broker for all pools of a cluster, and how a pool tells it its wish."""
