"""The same call on many targets at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pool.cluster.at_once import at_once
from pool.cluster.interface import Cluster
from pool.dispatch.target import Target, call


async def broadcast(
    cluster: Cluster,
    targets: Sequence[Target],
    work: Callable[..., Any] | str,
    args: tuple[Any, ...],
    environments: Sequence[Mapping[str, str]] | None = None,
) -> list[Any]:
    """Call a function on every target, and return its results in their order.

    Args:
        cluster: The cluster that the targets run on.
        targets: Whom to call.
        work: A function, or the name of a method of theirs.
        args: Its arguments.
        environments: The variables that each sets for the length of the call.

    Raises:
        Exception: The first error of any target, as itself; the other calls are not waited for.
    """
    results: list[Any] = [None] * len(targets)

    async def one(number: int) -> None:
        environment = environments[number] if environments else None
        results[number] = await call(cluster, targets[number], work, args, environment or None)

    await at_once(one, len(targets))
    return results


def in_rows(flat: Sequence[Any], rows: Sequence[Sequence[object]]) -> list[list[Any]]:
    """Return results in rows as long as those that their targets were given in."""
    given = iter(flat)
    return [[next(given) for _ in row] for row in rows]
