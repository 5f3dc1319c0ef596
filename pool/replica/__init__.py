"""The tree: a pool of replicas, each of which holds a pool of node hosts."""
