"""The window of a pool: what its owner shows of it to everybody, and what others ask of its owner.

An owner publishes JSON documents in the cluster (`Observer.publish`): the pool as it is now
(`picture`), and its last events. Whoever reaches the cluster reads them, with the owner alive or
dead, and leaves requests that the owner takes and answers. Only JSON goes through it, and what is
read is checked: a document of another version, or of another shape, is not shown as if it were one.

It gives nobody a right that they did not have: whoever can write where these documents are, which
is the cluster's control, can run code in the cluster.
"""
