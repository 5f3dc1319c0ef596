"""The node host of a soak: it misbehaves when a file says so. Workers import this, so it is light.

A file that concerns a pool is taken away by the first host that finds it, so that one start fails
and the next does not.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pool


def slug(member: str) -> str:
    """Return a member's id as a part of a file's name."""
    return member.replace("/", "_")


class Wayward(pool.NodeHost):
    """Hang or fail as the files in a folder say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def start(self) -> None:
        if self._takes("start-fails"):
            raise OSError("the weights are not mounted")
        if self._takes("start-hangs"):
            await asyncio.Event().wait()

    def check_health(self) -> None:
        # The host's pool is the replica; a check that hangs does so on every host of it.
        stuck = self.folder / f"stuck-{slug(self.context.identity.pool)}"
        while stuck.exists():
            time.sleep(0.2)

    async def shutdown(self) -> None:
        if self._takes("hook-hangs"):
            await asyncio.Event().wait()

    def _takes(self, word: str) -> bool:
        name, _, _ = self.context.identity.pool.partition("/")
        try:
            (self.folder / f"{word}-{name}").unlink()
        except FileNotFoundError:
            return False
        return True
