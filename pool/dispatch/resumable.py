"""Work that goes on after its members were lost: tried again, within a budget for each cause."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import anyio

from pool.errors import (
    ConfigError,
    MemberLost,
    MemberUnreachable,
    NotAdmitted,
    PoolError,
    PoolFailed,
)
from pool.manager.events import Event, EventKind
from pool.planning.restart import Cause

T = TypeVar("T")

BUDGETS: Mapping[Cause, int | None] = {
    Cause.CRASH: 10,
    Cause.UNHEALTHY: 10,
    Cause.START: 10,
    Cause.NODE_LOST: 1_000_000,
    Cause.PREEMPTION: 1_000_000,
    Cause.MAINTENANCE: 1_000_000,
}
"""How often work is tried again by default: nearly for ever when the platform took the node."""
VERDICT_WAIT_S = 2.0
"""How long the pool may take to say why a member was lost; then the error's own word counts."""
UNREACHABLE_WAIT_S = 120.0
RETRY_S = 0.1


class Ending(StrEnum):
    """Name how resumable work ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The budget of a cause that is the member's own was used up, or the pool gave up."""
    PREEMPTED = "preempted"
    """The budget of a cause that is the platform's was used up."""
    ERROR = "error"
    """The work itself raised; trying again is of no use."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """Hold what came of resumable work.

    Args:
        ending: How it ended.
        attempts: How often it was tried.
        lost: How often members were lost under it, by cause.
        value: What it returned, if it succeeded.
        error: What ended it, if it did not.
    """

    ending: Ending
    attempts: int
    lost: Mapping[Cause, int]
    value: T | None = None
    error: Exception | None = None

    def unwrap(self) -> T:
        """Return the value.

        Raises:
            Exception: What ended the work, if it did not succeed.
        """
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Resumable(Protocol):
    """Be a pool, as far as resuming is concerned."""

    name: str

    @property
    def desired(self) -> int:
        """How many members it is to have."""
        ...

    def members(self, *, serving: bool = False) -> list[Any]:
        """List its members."""
        ...

    def events(self) -> tuple[Event, ...]:
        """Return the last events."""
        ...

    @property
    def failed(self) -> PoolFailed | None:
        """Why it gave up."""
        ...

    async def changed(self) -> None:
        """Wait until something about it changes."""


async def run_resumable(
    pool: Resumable,
    work: Callable[[int], Awaitable[T]],
    *,
    budgets: Mapping[Cause, int | None] | None = None,
) -> Outcome[T]:
    """Do work that needs the whole pool, and do it again when a member was lost under it.

    Each try begins when the pool has all its members. The work has to find out itself how far it
    was, as from a checkpoint.

    Args:
        pool: The pool.
        work: Is called with the number of the try, from 0; `lambda attempt: pool.broadcast(...)`.
        budgets: Cause to how often it is forgiven; None for ever. A cause that is not named keeps
            its default: 10 for crashes, failed checks and failed starts, a million for what the
            platform takes away.

    Returns:
        How it ended. An error that the work itself raised is not tried again.

    Raises:
        ConfigError: A budget is no whole number of 0 or more.

    Cancelling it cancels the try that is under way.
    """
    limits = {**BUDGETS, **_checked(budgets or {})}
    lost: Counter[Cause] = Counter()
    attempt = 0
    while True:
        try:
            await _until_whole(pool)
            value = await work(attempt)
        except Exception as raised:
            error = _telling(raised)
        else:
            return Outcome(Ending.SUCCEEDED, attempt + 1, dict(lost), value=value)
        attempt += 1
        if isinstance(error, NotAdmitted):
            # A member began to leave as the try began, which the pool will hear of in a moment.
            await anyio.sleep(RETRY_S)
        elif isinstance(error, MemberLost):
            cause = await _cause_of(pool, error)
            lost[cause] += 1
            limit = limits.get(cause, 0)
            if limit is not None and lost[cause] > limit:
                ending = Ending.PREEMPTED if cause in _PLATFORM else Ending.FAILED
                return Outcome(ending, attempt, dict(lost), error=error)
        else:
            ending = Ending.FAILED if isinstance(error, PoolFailed) else Ending.ERROR
            return Outcome(ending, attempt, dict(lost), error=error)


def _telling(error: Exception) -> Exception:
    """Return the loss in a group of errors, as task groups raise them; or else the error itself.

    A loss makes others fail that waited for the lost one.
    """
    if not isinstance(error, ExceptionGroup):
        return error
    inside = [_telling(each) for each in error.exceptions]
    for kind in (MemberLost, NotAdmitted):
        for each in inside:
            if isinstance(each, kind):
                return each
    return inside[0] if len(inside) == 1 else error


_PLATFORM = frozenset({Cause.NODE_LOST, Cause.PREEMPTION, Cause.MAINTENANCE})

_TELLING = (EventKind.MEMBER_FAULT, EventKind.MEMBER_NOTICE)


def _checked(budgets: Mapping[Cause, int | None]) -> dict[Cause, int | None]:
    for cause, limit in budgets.items():
        if limit is not None and (type(limit) is not int or limit < 0):
            raise ConfigError(
                f"the budget of {cause!s} is {limit!r}; give a whole number, or None", "budgets"
            )
    return {Cause(cause): limit for cause, limit in budgets.items()}


async def _until_whole(pool: Resumable) -> None:
    """Wait until the pool has all its members, and raise what it gave up with."""
    if not pool.desired:
        raise PoolError(f"pool {pool.name!r} has size 0; scale it first")
    while len(pool.members(serving=True)) < pool.desired:
        if pool.failed is not None:
            raise pool.failed
        await pool.changed()


async def _cause_of(pool: Resumable, error: MemberLost) -> Cause:
    """Return why a member was lost, as its pool knows it, which sees more than the caller."""
    match = re.match(rf"{re.escape(pool.name)}/(\d+)\.(\d+)", error.member)
    if match is None:
        return Cause(error.cause)
    slot, generation = map(int, match.groups())
    # Of one that cannot be reached only the pool will find out what became of it.
    patience_s = UNREACHABLE_WAIT_S if isinstance(error, MemberUnreachable) else VERDICT_WAIT_S
    with anyio.move_on_after(patience_s):
        while True:
            told = [e for e in pool.events() if (e.slot, e.generation) == (slot, generation)]
            for event in reversed(told):
                if event.kind in _TELLING and "cause" in event.facts:
                    return Cause(event.facts["cause"])
            await pool.changed()
    return Cause(error.cause)
