"""A replica pool's warm room: capacity that is there before a replica needs it.

Ray counts what is in use against what is asked for, so a wish names all that the pool wants there
to be: its replicas and spares, and `warm` more.

Limits: Ray does not spread what is merely asked for. Where a replica takes several nodes, the room
of its bundles is kept, and perhaps on fewer nodes than it needs; then the rest comes when its group
waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from pool.cluster.interface import Cluster
from pool.demand.wishing import Wish, Wisher
from pool.errors import ConfigError, Fenced
from pool.planning.shape import BundlePlan
from pool.planning.topology import Topology


def check_warm(warm: int, cluster_grows: bool) -> int:
    """Return how many replicas' room is to be kept warm.

    Raises:
        ConfigError: It is no whole number, is negative, or no node could ever join.
    """
    if type(warm) is not int or warm < 0:
        raise ConfigError(f"warm is {warm!r}; give a whole number, 0 or more", "warm")
    if warm and not cluster_grows:
        raise ConfigError(
            f"warm is {warm}, for a cluster whose autoscaler adds nodes; give cluster_grows=True "
            "with it",
            "warm",
        )
    return warm


def wish_for(replicas: int, plan: BundlePlan, topology: Topology) -> Wish:
    """Return the wish for room for so many replicas, whether they are there or not."""
    bundles = tuple(dict(bundle) for bundle in plan.bundles)
    return Wish(bundles * replicas, plan.selector.bundle_labels(topology))


async def keep_warm(
    cluster: Cluster,
    pool: str,
    epoch: int,
    lease_s: float,
    *,
    wish: Callable[[], Awaitable[Wish]],
    changed: Callable[[], Awaitable[None]],
    say: Callable[[str], object],
    is_left: Callable[[], bool],
) -> None:
    """Wish for as long as this runs, and withdraw when it is cancelled.

    Args:
        cluster: The world.
        pool: Whose wish it is, the same for all owners of the pool.
        epoch: Which owner it is.
        lease_s: Seconds that the wish outlives the last word.
        wish: Returns what is wished for now.
        changed: Returns when that may be something else.
        say: Is told when the broker cannot be spoken to.
        is_left: Whether the pool goes on without this process. Then nothing is withdrawn: the next
            owner wishes in the pool's name, and where none comes the wish ends with its lease.
    """
    wisher = Wisher(cluster, pool, epoch, lease_s)
    try:
        await wisher.keep_forever(wish, changed, say)
    except Fenced:
        return  # The pool itself hears of it as well.
    finally:
        if not is_left():
            with anyio.CancelScope(shield=True):
                await wisher.withdraw()
