"""Hand the picture of a pool to many readers, each at its own speed.

A reader waits until there is more than it has seen, and gets everything that changed since, once:
whoever is slow gets fewer and larger helpings, and nothing queues up for it.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from pool.page.story import Json, Story


class Board:
    """Hold the latest picture; threads read it, whoever knows the pool writes it."""

    def __init__(self) -> None:
        self._story = Story()
        self._news = threading.Condition()
        self._trouble = ""
        self._told_at = 0.0
        self._closed = False

    def publish(
        self, at: float, snapshot: Json, events: Iterable[Json] = (), *, age_s: float = 0.0
    ) -> None:
        """Take in a snapshot of some age, and the events since the last, as in `Story.tell`."""
        with self._news:
            self._trouble = ""
            self._story.tell(at, snapshot, events)
            self._told_at = time.monotonic() - age_s
            self._news.notify_all()

    def begin_anew(self) -> None:
        """Forget the picture: what follows is of another pool."""
        with self._news:
            version = self._story.version
            self._story = Story()
            self._story.version = version

    def complain(self, trouble: str) -> None:
        """Say that nothing new is to be had, and why; what is known stays."""
        with self._news:
            if trouble != self._trouble:
                self._trouble = trouble
                self._story.version += 1
                self._news.notify_all()

    def close(self) -> None:
        """Let no reader wait any longer."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    def wait(self, version: int, timeout_s: float) -> tuple[int, str | None]:
        """Wait until there is more than a version, and return it as JSON.

        Args:
            version: What the reader has seen; 0 for nothing.
            timeout_s: Seconds to wait.

        Returns:
            The version that the reader has seen now, and what to tell it; None when the time is up
            or the board was closed.
        """
        with self._news:
            self._news.wait_for(lambda: self._closed or self._story.version > version, timeout_s)
            if self._closed or self._story.version <= version:
                return version, None
            told: dict[str, Any] = {
                **self._story.since(version),
                "trouble": self._trouble,
                "age_s": time.monotonic() - self._told_at,
            }
            version = self._story.version
        # Outside of the lock, for the pool's own loop takes it: what is told is replaced, and never
        # changed.
        return version, _written(told)


def _written(told: Mapping[str, Any]) -> str:
    """Return JSON as browsers read it: without the numbers that Python writes and JSON lacks."""
    try:
        return json.dumps(told, separators=(",", ":"), default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(told), separators=(",", ":"), default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
