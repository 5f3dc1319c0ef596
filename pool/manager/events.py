"""What a pool says of itself: one vocabulary of events, kept, logged, and followed.

Each event has a constant name and its facts beside it, so that a log can be searched and counted.
The names are the members of `EventKind`; nothing else is ever said.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

KEPT = 10_000
"""How many events a pool keeps in memory: at 200 bytes each, about two megabytes."""


class EventKind(StrEnum):
    """Name what happened."""

    POOL_OPENED = "pool_opened"
    POOL_ASKED = "pool_asked"
    POOL_SCALED = "pool_scaled"
    SIZE_DECIDED = "size_decided"
    POOL_CLAMPED = "pool_clamped"
    POOL_ROLLING = "pool_rolling"
    POOL_ROLLED = "pool_rolled"
    POOL_FAILED = "pool_failed"
    GANG_FAILED = "gang_failed"
    POOL_HURRIED = "pool_hurried"
    POOL_CLOSED = "pool_closed"
    POOL_DETACHED = "pool_detached"
    POOL_ATTACHED = "pool_attached"
    POOL_FENCED = "pool_fenced"
    SLOT_OPENED = "slot_opened"
    SLOT_RANKED = "slot_ranked"
    SLOT_SPARED = "slot_spared"
    SLOT_RETIRED = "slot_retired"
    SLOT_CLOSED = "slot_closed"
    SLOT_WAITING = "slot_waiting"
    MEMBER_STATE = "member_state"
    MEMBER_FAULT = "member_fault"
    MEMBER_NOTICE = "member_notice"
    MEMBER_DRAINED = "member_drained"
    MEMBER_CUT_OFF = "member_cut_off"
    RESTART_PLANNED = "restart_planned"
    SOURCE_UNAVAILABLE = "source_unavailable"
    CLUSTER_TOLD = "cluster_told"
    LEFTOVER = "leftover"


_LEVELS = {
    EventKind.POOL_FAILED: "error",
    EventKind.POOL_FENCED: "error",
    EventKind.LEFTOVER: "error",
    EventKind.POOL_CLAMPED: "warning",
    EventKind.GANG_FAILED: "warning",
    EventKind.MEMBER_FAULT: "warning",
    EventKind.MEMBER_NOTICE: "warning",
    EventKind.MEMBER_CUT_OFF: "warning",
    EventKind.POOL_HURRIED: "warning",
    EventKind.SLOT_WAITING: "warning",
    EventKind.SOURCE_UNAVAILABLE: "warning",
}


@dataclass(frozen=True, slots=True)
class Event:
    """Say what happened.

    Args:
        kind: What.
        at: When, in UNIX seconds.
        pool: In which pool.
        slot: In which slot, if in one.
        generation: To which incarnation of its member, if to one.
        facts: Whatever else is known: state, cause, reason, and so on.
    """

    kind: EventKind
    at: float
    pool: str
    slot: int | None = None
    generation: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        where = f" slot {self.slot}" if self.slot is not None else ""
        who = f".{self.generation}" if self.generation is not None else ""
        facts = " ".join(f"{key}={value}" for key, value in self.facts.items())
        return f"{self.kind}{where}{who} {facts}".strip()


class EventLog:
    """Keep a pool's events, log each, and tell whoever follows.

    Args:
        pool: The pool's name.
        clock: Returns UNIX seconds.
    """

    def __init__(self, pool: str, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._followers: dict[object, Callable[[Event], None]] = {}
        self._log: Any = None

    def __call__(
        self,
        kind: EventKind,
        slot: int | None = None,
        generation: int | None = None,
        **facts: Any,
    ) -> None:
        """Say that something happened."""
        event = Event(kind, self._clock(), self._pool, slot, generation, facts)
        self._kept.append(event)
        level = _NUMBERS[_LEVELS.get(kind, "info")]
        if _is_heard(level):
            where = {"slot": slot, "generation": generation}
            self._logger().log(
                level,
                kind.value,
                **{key: value for key, value in where.items() if value is not None},
                **facts,
            )
        for follower in list(self._followers.values()):
            try:
                follower(event)
            except Exception:
                self._logger().exception("follower_failed", follower=repr(follower))

    def _logger(self) -> Any:
        if self._log is None:
            self._log = _make_logger().bind(pool=self._pool)
        return self._log

    @property
    def kept(self) -> tuple[Event, ...]:
        """The last events, oldest first."""
        return tuple(self._kept)

    def follow(self, follower: Callable[[Event], None]) -> Callable[[], None]:
        """Call `follower` with each event from now on, on the pool's loop. It must not block.

        Returns:
            A function that ends the following. It may be called twice.
        """
        key = object()
        self._followers[key] = follower

        def end() -> None:
            self._followers.pop(key, None)

        return end


_NUMBERS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def _is_heard(level: int) -> bool:
    """Whether anybody listens to what is said at a level."""
    structlog = sys.modules.get("structlog")
    is_set_up = structlog is not None and structlog.is_configured()
    return is_set_up or logging.getLogger("pool").isEnabledFor(level)


def _make_logger() -> Any:
    """Return the application's structlog if it has set one up, else one on stdlib's logging.

    structlog by itself prints everything on standard output, which is not a library's to write on.
    """
    # Imported here, for it takes as long as half of this package, and in the processes of replicas,
    # whose start everybody waits for, there is mostly nobody who listens.
    import structlog

    if structlog.is_configured():
        return structlog.get_logger("pool")
    return structlog.wrap_logger(
        logging.getLogger("pool"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.KeyValueRenderer(key_order=["event", "pool", "slot"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
