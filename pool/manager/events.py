"""What a pool says of itself: one vocabulary of events, kept, logged, and followed.

Each event has a constant name and its facts beside it, so that a log can be searched and counted.
The names are the members of `EventKind`; nothing else is ever said.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pool.log import ANY, Said, Word, error, info, is_heard, make_logger, say, warning

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
    HOOK_FAILED = "hook_failed"
    CLUSTER_TOLD = "cluster_told"
    LEFTOVER = "leftover"


SAYS: dict[EventKind, Said] = {
    EventKind.POOL_OPENED: info("The pool was opened here.", "instance", "epoch"),
    EventKind.POOL_ATTACHED: info("This owner goes on with the pool.", "instance", "epoch"),
    EventKind.POOL_ASKED: info(
        "Somebody asked something of it through its window.", "verb", "by", ANY
    ),
    EventKind.POOL_SCALED: info("It is to have another size.", "desired", "reason"),
    EventKind.SIZE_DECIDED: info("Its load led to another size.", "size", "wanted", "reason"),
    EventKind.POOL_CLAMPED: warning(
        "It is to have fewer members than was asked for, as it may.", "asked", "desired", "reason"
    ),
    EventKind.POOL_ROLLING: info("Its members are to be of a new revision.", "revision", "policy"),
    EventKind.POOL_ROLLED: info("Nobody of an older revision is left.", "revision"),
    EventKind.POOL_FAILED: error(
        "It gave up, and starts nobody any more.", "cause", "reason", "trace"
    ),
    EventKind.GANG_FAILED: warning("A member's parts failed as one.", "cause", "reason", "trace"),
    EventKind.POOL_HURRIED: warning("Nobody who leaves is waited for any more."),
    EventKind.POOL_DETACHED: info("This owner left it as it is."),
    EventKind.POOL_FENCED: error("Somebody else owns it now.", "reason"),
    EventKind.POOL_CLOSED: info("It was closed, with all that it had."),
    EventKind.SLOT_OPENED: info("It got a slot.", "role", "rank", "reason"),
    EventKind.SLOT_WAITING: warning("A slot waits for a reservation.", "reason"),
    EventKind.SLOT_RANKED: info("A slot's member took over a rank.", "rank", "reason"),
    EventKind.SLOT_SPARED: info("A slot's member is a spare now.", "reason"),
    EventKind.SLOT_RETIRED: info("A slot is to be given up.", "reason"),
    EventKind.SLOT_CLOSED: info("A slot was given up.", "reason"),
    EventKind.MEMBER_STATE: info("A member is in another state.", "state", "reason"),
    EventKind.MEMBER_FAULT: warning("A member failed.", "cause", "reason", "trace"),
    EventKind.MEMBER_NOTICE: warning(
        "A member's node is said to go away, or not to any more.",
        "notice",
        "cause",
        "left_s",
        "answer",
    ),
    EventKind.MEMBER_DRAINED: info(
        "A member is gone; how far down the ladder it had to go. A warning if it has troubles.",
        "rung",
        "took_s",
        "troubles",
    ),
    EventKind.MEMBER_CUT_OFF: warning(
        "A member cannot be reached; it ends by its lease.", "ends_in_s"
    ),
    EventKind.RESTART_PLANNED: info("A slot will be filled again.", "in_s", "reason"),
    EventKind.SOURCE_UNAVAILABLE: warning(
        "Somebody who was asked did not answer.", "source", "reason", "times"
    ),
    EventKind.HOOK_FAILED: error(
        "A hook of the pool's class raised, and its default holds; said once for each error.",
        "hook",
        "reason",
        "trace",
    ),
    EventKind.CLUSTER_TOLD: info(
        "The cluster was told that a node goes away.", "node", "accepted", "reason"
    ),
    EventKind.LEFTOVER: error("Something of it could not be removed.", "what"),
}
"""What each event tells, how loud it is, and which facts may stand beside it."""


def level_of(kind: EventKind, facts: Mapping[str, Any]) -> str:
    """Return how loudly an event is said: `info`, `warning` or `error`."""
    return logging.getLevelName(_level_of(kind, facts)).lower()


def _level_of(kind: EventKind, facts: Mapping[str, Any]) -> int:
    # What went wrong on the way out may have left something running.
    is_told_louder = kind is EventKind.MEMBER_DRAINED and facts.get("troubles")
    return logging.WARNING if is_told_louder else SAYS[kind].level


def traced(trace: str) -> dict[str, Any]:
    """Return the facts of where something was raised, if something was."""
    return {"trace": trace} if trace else {}


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
        facts = " ".join(f"{key}={value}" for key, value in self.facts.items() if key != "trace")
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
        level = _level_of(kind, facts)
        if is_heard(level):
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
                say(Word.FOLLOWER_FAILED, exc_info=True, follower=repr(follower))

    def _logger(self) -> Any:
        if self._log is None:
            self._log = make_logger().bind(pool=self._pool)
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
