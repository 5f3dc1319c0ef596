"""Which members of an older revision may go next, while a pool is rolled to a new one.

A *revision* is what members are made from: shape, code, environment. Every member of another one
than the pool's present revision is *outdated*, so that rolling back is rolling to the earlier one.
`choose_outdated` looks at the pool as it is and keeps two bounds: not more replacements at once
than the surge, and no fewer ready members than the desired size less what may be unavailable.

Why not a cursor ("slots above 3 are done"): a cursor is a second truth beside the slots. Whoever
crashes in the middle of a roll would have to save it, and a member that is replaced for another
reason makes it lie. Here nothing is remembered, so that pause, crash, roll back and roll on are
the same code.

Limits: this says who may go; how they go, with ranks and roles, is the reconcile planner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pool.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RollPolicy:
    """Say how many members more, and how many ready ones fewer, a roll may have.

    Args:
        surge: Members beyond the desired size, so that the new come before the old go; 0 or more.
        max_unavailable: Ready members below the desired size; 0 or more. One of the two is above 0.
        paused: Whether to hold the roll where it is. What was begun is finished, what is missing
            is started, in the new revision; nobody else is let go.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    surge: int = 1
    max_unavailable: int = 0
    paused: bool = False

    def __post_init__(self) -> None:
        for name in ("surge", "max_unavailable"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} is {value!r}; give a whole number, 0 or more", name)
        if self.surge == self.max_unavailable == 0:
            message = (
                "surge and max_unavailable are both 0; give 1 or more to one, or nothing can move"
            )
            raise ConfigError(message, "surge")


@dataclass(frozen=True, slots=True)
class Choice:
    """Say which outdated members may go now.

    Args:
        replace: The slots for which a replacement may be opened.
        drain: The slots whose members may leave before their successors come.
    """

    replace: tuple[int, ...] = ()
    drain: tuple[int, ...] = ()


def choose_outdated(
    ready: Sequence[int],
    unready: Sequence[int],
    *,
    available: int,
    replacing: int,
    desired: int,
    policy: RollPolicy,
) -> Choice:
    """Choose who of the outdated goes next, the highest slot first.

    Args:
        ready: The slots whose members are outdated, ready, and not yet being replaced.
        unready: Those whose members were ready once and are not now.
        available: How many of the pool's members are ready and stay, the outdated ones included.
        replacing: How many replacements for outdated members are under way.
        desired: How many members the pool is meant to have.
        policy: The bounds.

    Returns:
        The choice. A new revision that never gets ready is given nothing that works in exchange.
    """
    if policy.paused:
        return Choice()
    floor = max(0, desired - policy.max_unavailable)
    # An old member that is not ready costs nothing now, but may yet get ready. Unless enough
    # would be ready even if no new one ever gets so, it is kept: a revision that never works must
    # not use the old one up.
    spare = max(0, available + len(unready) - floor)
    surplus = max(0, available - floor)
    broken, old = sorted(unready, reverse=True), sorted(ready, reverse=True)
    kept = (*broken[spare:], *old[surplus:])
    return Choice(
        replace=kept[: max(0, policy.surge - replacing)],
        drain=(*broken[:spare], *old[:surplus]),
    )
