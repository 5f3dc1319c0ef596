"""Say things in the log: constant words, with their facts beside them.

One vocabulary for all of `pool`: the events of pools (`pool.manager.events`), and the words below,
for parts that belong to no pool's events or run where nobody keeps them. A log can so be searched
and counted, and its table in the documentation is made from the code.

Why not a logger of each module: then everybody writes sentences, each with its facts inside.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

NAME = "pool"
"""The name of the logger that everything is said on."""


ANY = "…"
"""Stands for the facts of whoever is quoted."""


@dataclass(frozen=True, slots=True)
class Said:
    """Describe a word: what it tells, how loud it is, and which facts may stand beside it."""

    text: str
    level: int
    facts: frozenset[str]

    @property
    def loudness(self) -> str:
        """The level in words: `debug`, `info`, `warning` or `error`."""
        return logging.getLevelName(self.level).lower()


def info(text: str, *facts: str) -> Said:
    """Describe what happens in the ordinary course of things."""
    return Said(text, logging.INFO, frozenset(facts))


def warning(text: str, *facts: str) -> Said:
    """Describe what somebody may want to look into."""
    return Said(text, logging.WARNING, frozenset(facts))


def error(text: str, *facts: str) -> Said:
    """Describe what somebody has to look into."""
    return Said(text, logging.ERROR, frozenset(facts))


class Word(StrEnum):
    """Name what is said outside of a pool's events."""

    DEVICES_CLEARED = "devices_cleared"
    DEVICES_UNKNOWN = "devices_unknown"
    FOLLOWER_FAILED = "follower_failed"
    LEASE_OVER = "lease_over"
    LEASES_NOT_RENEWED = "leases_not_renewed"
    POOL_GIVEN_UP = "pool_given_up"
    POOL_NOT_SHOWN = "pool_not_shown"
    PORTS_KEPT = "ports_kept"
    PROGRESS = "progress"
    REMAINS_IN_THE_WAY = "remains_in_the_way"
    REQUEST_NOT_UNDERSTOOD = "request_not_understood"
    SOURCE_ABSENT = "source_absent"
    SOURCE_LEFT_OUT = "source_left_out"
    SOURCE_NOT_SHARED = "source_not_shared"
    SOURCE_UNANSWERED = "source_unanswered"
    SOURCES_FOUND = "sources_found"
    START_FAILED = "start_failed"
    WARM_NOT_ASKED = "warm_not_asked"
    WIND_UP_TROUBLE = "wind_up_trouble"
    WORK_WAITS = "work_waits"


WORDS: dict[Word, Said] = {
    Word.DEVICES_CLEARED: warning("Devices were cleared before a start.", "report"),
    Word.DEVICES_UNKNOWN: warning(
        "NVML did not say what holds a device; its memory is taken for free.", "device", "reason"
    ),
    Word.FOLLOWER_FAILED: error("A function that was to be told of something raised.", "follower"),
    Word.LEASE_OVER: warning(
        "A member has not heard from its owner, and ends.", "member", "lasts_s"
    ),
    Word.LEASES_NOT_RENEWED: warning(
        "A keeper could not renew the leases of its pool.", "pool", "reason"
    ),
    Word.POOL_GIVEN_UP: warning(
        "A keeper stops keeping its pool, which ends by its leases.", "pool", "reason"
    ),
    Word.POOL_NOT_SHOWN: warning("A pool could not be shown to others.", "pool", "reason"),
    Word.PORTS_KEPT: warning(
        "Leased ports were not given back; their host keeps them until it ends.", "member", "reason"
    ),
    Word.PROGRESS: info("How far a map is, in words.", "line"),
    Word.REMAINS_IN_THE_WAY: warning(
        "A keeper could not take away what is left of its pool.", "pool", "reason"
    ),
    Word.REQUEST_NOT_UNDERSTOOD: warning("A request could not be read.", "pool"),
    Word.SOURCE_ABSENT: Said(
        "A node has no such source of notices.", logging.DEBUG, frozenset({"source", "reason"})
    ),
    Word.SOURCE_LEFT_OUT: warning(
        "A source of notices of another package could not be had.", "source", "group", "reason"
    ),
    Word.SOURCE_NOT_SHARED: warning(
        "A source of notices is asked by one process alone, not for its whole node.",
        "source",
        "reason",
    ),
    Word.SOURCE_UNANSWERED: warning(
        "A source of notices did not answer on a node.", "source", "unavailable", "asked", "reason"
    ),
    Word.SOURCES_FOUND: info("Which sources of notices a node has.", "sources"),
    Word.START_FAILED: error("What a member runs did not start; with its traceback.", "member"),
    Word.WARM_NOT_ASKED: warning("Warm capacity could not be asked for.", "reason"),
    Word.WIND_UP_TROUBLE: warning("A member whose lease is over met trouble.", "member", "reason"),
    Word.WORK_WAITS: warning(
        "A map, a call or a stream finds nobody to do it, and waits.", "pool", "reason"
    ),
}
"""What each word tells, and which facts may stand beside it."""


def say(word: Word, *, exc_info: bool = False, **facts: Any) -> None:
    """Say something, on the application's structlog if it has set one up, else on logging's.

    Args:
        word: What.
        exc_info: Whether the error that is being handled goes with it.
        **facts: What is known of it; those that its word has.
    """
    level = WORDS[word].level
    if is_heard(level):
        given = {"exc_info": True} if exc_info else {}
        make_logger().log(level, word.value, **facts, **given)


def is_heard(level: int) -> bool:
    """Whether anybody listens to what is said at a level."""
    structlog = sys.modules.get("structlog")
    is_set_up = structlog is not None and structlog.is_configured()
    return is_set_up or logging.getLogger(NAME).isEnabledFor(level)


def make_logger() -> Any:
    """Return the application's structlog if it has set one up, else lines on stdlib's logging.

    structlog by itself prints everything on standard output, which is not a library's to write on.
    """
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        return structlog.get_logger(NAME)
    return _Lines({})


@dataclass(frozen=True, slots=True)
class _Lines:
    """Write lines of names and values on stdlib's logging, as structlog would.

    Importing structlog takes up to a tenth of a second. A replica that has the death of a host to
    tell would say so in its log, and only then to its owner.
    """

    bound: dict[str, Any]

    def bind(self, **facts: Any) -> _Lines:
        return _Lines({**self.bound, **facts})

    def log(self, level: int, event: str, *, exc_info: bool = False, **facts: Any) -> None:
        words = {"event": event, **self.bound, **facts}
        line = " ".join(f"{name}={value!r}" for name, value in words.items())
        logging.getLogger(NAME).log(level, line, exc_info=exc_info)
