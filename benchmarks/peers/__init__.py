"""Beside what others ship: the same work by `pool`, by bare Ray, and by a peer, in turn."""
