"""When a pool said what: each event with the moment it was heard."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio

import pool

PATIENCE_S = 120.0


class Listener:
    """Follow a pool, and tell when an event was first heard."""

    def __init__(self, replicas: pool.ResourcePoolManager[Any]) -> None:
        self._heard: list[tuple[float, pool.Event]] = []
        self._pool = replicas
        replicas.follow(lambda event: self._heard.append((time.monotonic(), event)))

    def forget(self) -> None:
        """Listen anew."""
        self._heard.clear()

    async def until(self, kind: pool.EventKind, **facts: object) -> float:
        """Wait for an event of a kind and with these facts, and return when it was heard."""

        def matches(event: pool.Event) -> bool:
            return event.kind is kind and all(event.facts.get(k) == v for k, v in facts.items())

        return await self._until(matches)

    async def _until(self, matches: Callable[[pool.Event], bool]) -> float:
        with anyio.fail_after(PATIENCE_S):
            while True:
                for at, event in self._heard:
                    if matches(event):
                        return at
                await self._pool.changed()
