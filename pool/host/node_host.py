"""`NodeHost`: what a framework author subclasses, one object on each node of a replica."""

from __future__ import annotations

from typing import Any

from pool.cluster.body import Context
from pool.planning.resources import Resources


class NodeHost:
    """Do what has to be done on one node of a replica. Subclass it and override what you need.

    Attributes:
        index: Which host of its replica this is, from 0.
        hosts: How many hosts the replica has.
        bundle: What the host's bundle holds.
        context: Where it runs, and whom it belongs to.

    `start` and `shutdown` run on the actor's main loop. `check_health` runs on a thread of its own
    and must not wait for what the others do. Each may be a plain or an async method.
    """

    index: int
    hosts: int
    bundle: Resources
    context: Context

    def start(self) -> Any:
        """Get ready; what is returned (or awaited) becomes `HostInfo.extra`.

        Raises:
            Temporary: Not yet; try again after the time it says.
            Permanent: Trying again is no use.
        """

    def check_health(self) -> Any:
        """Return when all is well; raise, saying what is wrong, when not."""

    def shutdown(self) -> Any:
        """Put down what `start` and later calls set up. It is given a part of the drain's time."""
