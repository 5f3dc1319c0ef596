"""Go on with a detached pool that another process has left, or lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, overload

from pool.cluster.connect import connect
from pool.cluster.interface import Actor, Cluster
from pool.control.listing import list_pools
from pool.errors import ConfigError, MemberLost, PoolHeld, PoolUnknown
from pool.manager.manager import ResourcePoolManager
from pool.ownership.keeper import Holding, keeper_of
from pool.ownership.owner import CALL_TIMEOUT_S, dismiss
from pool.replica.replica_pool import ReplicaPool

PoolT = TypeVar("PoolT", bound=ResourcePoolManager[Any])


@overload
def attach(
    name: str, *, takeover: bool = False, cluster: Cluster | None = None
) -> AbstractAsyncContextManager[ReplicaPool]: ...


@overload
def attach(
    name: str, *, kind: type[PoolT], takeover: bool = False, cluster: Cluster | None = None
) -> AbstractAsyncContextManager[PoolT]: ...


@asynccontextmanager
async def attach(
    name: str,
    *,
    kind: type[ResourcePoolManager[Any]] = ReplicaPool,
    takeover: bool = False,
    cluster: Cluster | None = None,
) -> AsyncIterator[Any]:
    """Own a detached pool: same slots, same members, nothing restarted.

    What is there and cannot be gone on with, such as a group without its actor, is taken away. At
    the end of the block the pool is drained, unless it was detached again.

    Args:
        name: The pool's name.
        kind: The class of pool that is expected.
        takeover: Whether to take the pool from an owner that lives. The owner is told: its calls
            raise `Fenced`, and it touches nothing any more.
        cluster: The world; by default the Ray cluster this process is connected to.

    Raises:
        PoolUnknown: There is no detached pool of that name.
        PoolHeld: It has an owner that lives, and `takeover` was not asked for.
        Fenced: Somebody else attached at the same moment.
        ConfigError: The pool is of another class.
    """
    cluster = connect() if cluster is None else cluster
    keeper, holding = await look(name, cluster)
    if not takeover and await is_held(holding, cluster):
        raise PoolHeld(name, holding.owner or "", holding.heard_s)
    if holding.record is None:
        if holding.heard_s > CALL_TIMEOUT_S:
            # Its owner ended before it had begun; the name is to be free again.
            await dismiss(cluster, keeper)
        raise PoolUnknown(name, [pool.name for pool in await list_pools(cluster)])
    pool: ResourcePoolManager[Any] = cluster.thaw(holding.record.recipe)(cluster=cluster)
    if not isinstance(pool, kind):
        raise ConfigError(f"pool {name!r} is a {type(pool).__name__}, no {kind.__name__}", "kind")
    pool.inherit(keeper, holding)
    async with pool:
        yield pool


async def look(name: str, cluster: Cluster) -> tuple[Actor, Holding]:
    """Return a detached pool's keeper, and who owns the pool.

    Raises:
        PoolUnknown: There is no detached pool of that name.
    """
    keeper = await cluster.find(keeper_of(name))
    if keeper is not None:
        try:
            holding: Holding = await cluster.call(keeper, "look", timeout_s=CALL_TIMEOUT_S)
        except MemberLost:
            pass  # It ended meanwhile.
        else:
            return keeper, holding
    raise PoolUnknown(name, [pool.name for pool in await list_pools(cluster) if pool.detached])


async def is_held(holding: Holding, cluster: Cluster) -> bool:
    """Return whether a pool's owner lives, and was heard of within the lease."""
    if holding.owner is None or holding.heard_s > holding.lease.lasts_s:
        return False
    return not await cluster.is_gone(holding.owner)
