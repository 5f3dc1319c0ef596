"""The same call on every node host at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import anyio

from pool.cluster.interface import Cluster
from pool.dispatch.target import Target, call
from pool.errors import PoolError
from pool.host.info import ReplicaInfo
from pool.manager.member import Incarnation, Member
from pool.rendezvous import Place, Rendezvous


class Replicas(Protocol):
    """Be a pool of replicas, as far as a broadcast is concerned."""

    name: str
    cluster: Cluster

    def members(self, *, serving: bool = False) -> list[Member[ReplicaInfo]]:
        """List the members, by rank."""
        ...

    def find(self, member_id: str) -> Incarnation[ReplicaInfo] | None:
        """Return the record that counts a member's calls."""
        ...


async def broadcast(
    pool: Replicas,
    work: Callable[..., Any] | str,
    args: tuple[Any, ...],
    *,
    env: Rendezvous | None,
    flat: bool,
    timeout_s: float | None,
) -> list[Any]:
    """See `ReplicaPool.broadcast`."""
    rows: list[list[Target]] = []
    places: list[Place] = []
    for member in pool.members(serving=True):
        record = pool.find(member.id)
        if record is None or member.info is None:
            continue
        row = []
        for host in member.info.hosts:
            places.append(Place(replica=len(rows), host=host))
            row.append(Target(host.actor, record))
        rows.append(row)
    if not rows:
        raise PoolError(
            f"pool {pool.name!r} has no ready replica to broadcast to; scale it first, and look "
            "at its snapshot() for the reasons"
        )
    with anyio.fail_after(timeout_s):
        environments: Sequence[dict[str, str] | None] = [None] * len(places)
        if env is not None:
            environments = await env.build(pool.cluster, places)
        given = iter(environments)
        results: list[list[Any]] = [[None] * len(row) for row in rows]

        async def one(replica: int, host: int, environment: dict[str, str] | None) -> None:
            target = rows[replica][host]
            results[replica][host] = await call(pool.cluster, target, work, args, environment)

        await _all(
            [(one, (r, h, next(given))) for r, row in enumerate(rows) for h in range(len(row))]
        )
    return [result for row in results for result in row] if flat else list(results)


async def _all(calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
    """Make all calls at once; the first error ends the rest and is raised as itself."""
    try:
        async with anyio.create_task_group() as tasks:
            for function, arguments in calls:
                tasks.start_soon(function, *arguments)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
