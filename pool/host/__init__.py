"""The node host: one object on each node of a replica, and the actor's body around it."""
