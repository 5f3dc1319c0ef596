"""Work that finds nobody to do it waits; after a while that is said, for it may be a mistake.

A pool may be scaled at any time, by another task or from outside, so that it is no error. But who
forgot it would otherwise wait for ever, and see nothing.
"""

from __future__ import annotations

import asyncio

from pool.dispatch.target import Targets
from pool.log import Word, say

PATIENCE_S = 5.0
"""How long work may find nobody before that is said."""


def nobody(on: str) -> str:
    """Say that there is nobody to be called, and what to do."""
    has = "rank actor" if on == "rank" else "ready replica"
    return (
        f"has no {has} to call; scale it first, as in `await pool.scale(1)`, and look at its "
        "snapshot() for the reasons" + ("; rank actors are declared with ranks=" * (on == "rank"))
    )


class Unattended:
    """Warn of work that finds nobody, once until somebody is there again.

    Args:
        pool: Whom the work is for.
        on: Which targets of the pool.
    """

    def __init__(self, pool: Targets, on: str) -> None:
        self._pool = pool
        self._on = on
        self._timer: asyncio.TimerHandle | None = None

    def look(self, *, waits: bool) -> None:
        """Hear whether work waits, and nobody is there."""
        if not waits:
            self.end()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._say)

    def end(self) -> None:
        """Say nothing more of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say(self) -> None:
        reason = f"pool {self._pool.name!r} {nobody(self._on)}"
        say(Word.WORK_WAITS, pool=self._pool.name, reason=reason)
