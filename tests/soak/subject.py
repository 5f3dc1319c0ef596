"""A pool under test: one of this process, or one whose owner is a process that gets killed."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import anyio

import pool
from tests.soak.pools import KEPT, Picture, picture, tell
from tests.soak.strikes import Ledger, Who

ROOT = Path(__file__).parents[2]
STALE_S = 5.0
"""An owner that is alive and says nothing for so long is busy; what it said last is old."""
OWNER_READY_S = 180.0
CLOSE_S = 90.0
_LINE_LIMIT = 2**22


class Subject:
    """Hear everything that a pool says.

    Args:
        name: Its name.
        ledger: Hears it too.
    """

    def __init__(self, name: str, ledger: Ledger) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        self.broken: list[str] = []
        self.nodes: dict[Who, list[str]] = {}
        self.woken = asyncio.Event()
        self._ledger = ledger

    @property
    def is_here(self) -> bool:
        """Whether the pool has an owner that answers."""
        return True

    def look(self) -> Picture | None:
        """Return the pool as it is now; None while nobody can tell."""
        raise NotImplementedError

    def hear(self, event: dict[str, Any]) -> None:
        """Take note of an event."""
        self.events.append(event)
        shown = event.pop("picture")
        self.see(shown, event["at"])
        self._ledger.hear(self.name, event)
        if event["kind"] == "member_state" and event["facts"]["state"] == "pending":
            live = sum(1 for s in shown["slots"] if s["state"] and not s["lingers"])
            if live > shown["most"]:
                self.broken.append(f"INV-2: {self.name} has {live} members, {shown['most']} may be")
        self.woken.set()

    def see(self, shown: Picture, at: float) -> None:
        """Take note of how the pool looks."""
        for slot in shown["slots"]:
            if slot["nodes"] and slot["generation"] is not None:
                self.nodes[slot["slot"], slot["generation"]] = slot["nodes"]
        if shown["settled"]:
            self._ledger.settled(self.name, at)


class Direct(Subject):
    """Be a pool of this process."""

    def __init__(self, replicas: pool.ReplicaPool, ledger: Ledger) -> None:
        super().__init__(replicas.name, ledger)
        self.replicas = replicas
        replicas.follow(lambda event: self.hear(tell(event, picture(replicas))))

    def look(self) -> Picture | None:
        shown = picture(self.replicas)
        self.see(shown, time.time())
        return shown


class Owned(Subject):
    """Be the detached pool, by way of its owner, which may be killed and followed by another."""

    def __init__(self, address: str, folder: Path, ledger: Ledger) -> None:
        super().__init__(KEPT, ledger)
        self._address = address
        self._folder = folder
        self._owner: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._seen: tuple[float, Picture] | None = None
        self._ready = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def is_here(self) -> bool:
        return self._ready.is_set() and self.look() is not None

    def look(self) -> Picture | None:
        if self._seen is None or time.time() - self._seen[0] > STALE_S:
            return None
        return self._seen[1]

    async def begin(self, how: str) -> None:
        """Start an owner that founds the pool, or attaches to it, and wait until it has it.

        Raises:
            TimeoutError: It did not get it.
        """
        self._ready.clear()
        with (self._folder / "owner.log").open("ab") as log:
            self._owner = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.soak.owner"),
                *(self._address, str(self._folder), how),
                cwd=ROOT,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                limit=_LINE_LIMIT,
                start_new_session=True,
            )
        self._reading = asyncio.create_task(self._read(self._owner))
        with anyio.fail_after(OWNER_READY_S):
            await self._ready.wait()

    async def _read(self, owner: Process) -> None:
        assert owner.stdout is not None
        async for line in owner.stdout:
            if not line.startswith(b'{"what"') or not line.endswith(b"\n"):
                continue
            said = json.loads(line)
            match said["what"]:
                case "event":
                    self._seen = said["at"], said["picture"]
                    self.hear(said)
                case "look":
                    self._seen = said["at"], said["picture"]
                    self.see(said["picture"], said["at"])
                case "ready":
                    self._ready.set()
                case "closed":
                    self._closed.set()

    async def kill(self) -> None:
        """Kill the owner, and wait for its process."""
        assert self._owner is not None
        assert self._reading is not None
        if self._owner.returncode is None:
            self._owner.kill()
        await self._owner.wait()
        await self._reading
        self._seen = None

    async def close(self) -> bool:
        """Let the owner close the pool; return whether it said that it had."""
        assert self._owner is not None
        assert self._owner.stdin is not None
        if self._owner.returncode is None:
            self._owner.stdin.write(b"close\n")
            with anyio.move_on_after(CLOSE_S):
                await self._closed.wait()
                await self._owner.wait()
        await self.kill()
        return self._closed.is_set()
