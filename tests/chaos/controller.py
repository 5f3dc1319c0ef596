"""A controller: the same pool, held by a Ray actor of the user's own (row N10)."""

from __future__ import annotations

import os
from typing import Any

import pool
from tests.chaos.owner import make, tell_of


class Controller:
    """Hold a pool for as long as the actor lives."""

    def __init__(self, detached: bool) -> None:
        self._pool: pool.ReplicaPool = make(detached=detached)

    async def open(self, size: int) -> dict[str, Any]:
        """Open the pool in the actor's own loop, and tell of it."""
        await self._pool.__aenter__()
        await self._pool.scale(size, timeout_s=60)
        return {"pid": os.getpid(), **tell_of(self._pool)}
