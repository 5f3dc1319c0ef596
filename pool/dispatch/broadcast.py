"""The same call on many targets at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from pool.cluster.at_once import at_once
from pool.cluster.interface import Cluster
from pool.dispatch.target import Target, call
from pool.errors import MemberLost

LOSS_WAIT_S = 2.0
"""How long an error waits for the news that a member was lost, while other calls are under way.

Those who are in a collective with one that dies fail for that reason alone, and are often heard
first.
"""


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
        MemberLost: A target died, or cannot be reached; also where another one's error was heard
            first.
        Exception: The first error of any target, as itself; the other calls are waited for no
            longer than `LOSS_WAIT_S`.
    """
    results: list[Any] = [None] * len(targets)
    errors: list[Exception] = []

    async def one(number: int) -> None:
        environment = environments[number] if environments else None
        try:
            results[number] = await call(cluster, targets[number], work, args, environment or None)
        except MemberLost:
            raise
        except Exception as error:
            errors.append(error)
            patience.deadline = min(patience.deadline, anyio.current_time() + LOSS_WAIT_S)

    with anyio.CancelScope() as patience:
        await at_once(one, len(targets))
    if errors:
        raise errors[0]
    return results


def in_rows(flat: Sequence[Any], rows: Sequence[Sequence[object]]) -> list[list[Any]]:
    """Return results in rows as long as those that their targets were given in."""
    given = iter(flat)
    return [[next(given) for _ in row] for row in rows]
