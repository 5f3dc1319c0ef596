"""Choose among sizes that a pool may have, and whom a shrinking pool lets go.

Purpose: what `scale()` accepts (one size, or several of which the largest that can be had is
taken), and the order of victims.

Limits: nothing here knows why a size could not be had; the reconcile planner does. Ranks and
gangs are not looked at: a slot is let go whole or kept whole.

Why not pop the newest member, as pools commonly do: the newest may be the only healthy one. Why
the highest slot among equals: slots stay the stable indices 0..n-1, so that ranks derived from
them do not move when a pool shrinks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pool.errors import ConfigError


def valid_sizes(request: int | Iterable[int]) -> tuple[int, ...]:
    """Read a request for one size, or for the largest of several.

    Args:
        request: A number of slots, 0 or more, or several, each 1 or more.

    Returns:
        The sizes, ascending, each once; never empty.

    Raises:
        ConfigError: Nothing was asked for, or something that is no size.
    """
    if isinstance(request, int):
        # Scaling to nothing is a plain wish; among several sizes a 0 would turn "nothing could be
        # had" into a success.
        return (_size(request, least=0),)
    if isinstance(request, str | bytes) or not isinstance(request, Iterable):
        raise ConfigError(f"the size is {request!r}; give a whole number or several", "size")
    sizes = tuple(sorted({_size(size, least=1) for size in request}))
    if not sizes:
        raise ConfigError("no size was given; give a whole number or several", "size")
    return sizes


def _size(size: object, *, least: int) -> int:
    # NB: True is an int; `scale(True)` is a mistake and not a pool of one.
    if type(size) is not int or size < least:
        raise ConfigError(f"the size {size!r} is none; give whole numbers, {least} or more", "size")
    return size


def largest_reachable(valid: tuple[int, ...], ready: int) -> int | None:
    """Return the largest valid size that is covered by what is ready.

    Args:
        valid: The sizes, ascending, as `valid_sizes` returns them.
        ready: How many slots have a ready member.

    Returns:
        The size, or None when even the smallest was not reached. `ready` less the size is surplus.
    """
    covered = bisect_right(valid, ready)
    return valid[covered - 1] if covered else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Hold what the choice of victims looks at, for one slot.

    Args:
        slot: The slot's index.
        ready: Whether its member got ready.
        healthy: Whether its health checks pass.
        leaving: Whether it has a notice: its node will go away.
        in_flight: Calls that it works on.
        outdated: Whether it was made from another revision than the pool's present one.
    """

    slot: int
    ready: bool
    healthy: bool
    leaving: bool
    in_flight: int = 0
    outdated: bool = False


# Whom a shrink costs least comes first; the first row that matches is the reason.
_ROWS: tuple[tuple[Callable[[Candidate], bool], str], ...] = (
    # Nothing is lost with it, and its start-up need not be waited for.
    (lambda candidate: not candidate.ready, "it is not ready yet"),
    # It would have to be replaced.
    (lambda candidate: not candidate.healthy, "it is unhealthy"),
    # It would have to be replaced, too, and still works until then.
    (lambda candidate: candidate.leaving, "its node will go away"),
    # So would it here, though nothing hurries.
    (lambda candidate: candidate.outdated, "it is outdated"),
    (lambda candidate: True, "it has the highest slot of those left"),
)


def choose_victims(
    candidates: Iterable[Candidate], n: int, *, least_busy: bool = False
) -> tuple[tuple[int, str], ...]:
    """Choose the slots that a shrinking pool lets go.

    Args:
        candidates: The slots to choose from, each once, in any order.
        n: How many to let go; all of them when there are fewer.
        least_busy: Whether, among equals, fewer calls in flight come before the higher slot.

    Returns:
        Slot and reason of each, first to go first.

    Raises:
        ConfigError: `n` is negative.
    """
    if n < 0:
        raise ConfigError(f"{n} slots were to be let go; give 0 or more", "n")
    ranked = sorted(
        (_row(candidate), candidate.in_flight if least_busy else 0, -candidate.slot)
        for candidate in candidates
    )
    return tuple((-minus_slot, _reason(row, least_busy)) for row, _, minus_slot in ranked[:n])


def _row(candidate: Candidate) -> int:
    return next(index for index, (matches, _) in enumerate(_ROWS) if matches(candidate))


def _reason(row: int, least_busy: bool) -> str:
    if least_busy and row == len(_ROWS) - 1:
        return "it is the least busy of those left"
    return _ROWS[row][1]
