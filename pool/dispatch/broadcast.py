"""The same call on every node host at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio

from pool.cluster.interface import Cluster
from pool.dispatch.target import Counter, Target, call
from pool.host.info import HostInfo
from pool.rendezvous import Place, Rendezvous


async def broadcast(
    cluster: Cluster,
    rows: Sequence[Sequence[tuple[HostInfo, Counter]]],
    work: Callable[..., Any] | str,
    args: tuple[Any, ...],
    env: Rendezvous | None,
) -> list[list[Any]]:
    """Call a function on every host, and return its results in rows as the hosts were given.

    Args:
        cluster: The cluster that the hosts run on.
        rows: The hosts of each replica, each with who counts the calls under way there.
        work: A function, or the name of a method of the node hosts.
        args: Its arguments.
        env: Builds the environment of each host, if one is wanted.

    Raises:
        Exception: The first error of any host, as itself; the other calls are not waited for.
    """
    places = [Place(index, host) for index, row in enumerate(rows) for host, _ in row]
    environments: Sequence[dict[str, str] | None] = [None] * len(places)
    if env is not None:
        environments = await env.build(cluster, places)
    given = iter(environments)
    results: list[list[Any]] = [[None] * len(row) for row in rows]

    async def one(replica: int, index: int, environment: dict[str, str] | None) -> None:
        host, member = rows[replica][index]
        target = Target(host.actor, member, f"host {host.index}: ")
        results[replica][index] = await call(cluster, target, work, args, environment)

    try:
        async with anyio.create_task_group() as tasks:
            for replica, row in enumerate(rows):
                for index in range(len(row)):
                    tasks.start_soon(one, replica, index, next(given))
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
    return results
