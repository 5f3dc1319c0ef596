"""Node hosts and functions that tests send to a real Ray. Workers import this, so it is light."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pool
from pool.cluster.body import Bulletin, Context
from pool.cluster.interface import News


class Switched(pool.NodeHost):
    """Be as healthy as files in a folder say: `ill` raises, `stuck` hangs; each check is counted.

    A file holds the id of the replica that it is meant for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checks = 0

    def check_health(self) -> None:
        self.checks += 1
        if self._is_meant("stuck"):
            time.sleep(3600)
        if self._is_meant("ill"):
            raise RuntimeError("the file says ill")

    def _is_meant(self, word: str) -> bool:
        try:
            return (self.folder / word).read_text() in ("all", self.context.identity.pool)
        except FileNotFoundError:
            return False

    def count_checks(self) -> int:
        return self.checks


class Talkative(pool.NodeHost):
    """Have methods to be called by name."""

    def start(self) -> dict[str, int]:
        return {"index": self.index, "hosts": self.hosts}

    def place(self, prefix: str) -> str:
        return f"{prefix}{self.context.identity.pool}/{self.index}"

    async def square(self, item: int) -> int:
        await asyncio.sleep(0.001)
        return item * item


class Farewell(pool.NodeHost):
    """Write a file in the shutdown hook, by the id of the host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def shutdown(self) -> None:
        name = self.context.identity.member.replace("/", "_")
        (self.folder / name).write_text(str(os.getpid()))


class Reluctant(pool.NodeHost):
    """Never return from the shutdown hook."""

    async def shutdown(self) -> None:
        await asyncio.Event().wait()


class Rude(pool.NodeHost):
    """Raise in the shutdown hook."""

    def shutdown(self) -> None:
        raise RuntimeError("no farewell")


class Slow(pool.NodeHost):
    """Never get ready."""

    async def start(self) -> None:
        await asyncio.Event().wait()


class Failing(pool.NodeHost):
    """Fail in `start` as often as told, counting in a file; then get ready."""

    def __init__(self, error: Exception, times: int, count: Path) -> None:
        self.error = error
        self.times = times
        self.count = count

    def start(self) -> None:
        done = int(self.count.read_text()) if self.count.exists() else 0
        if done < self.times:
            self.count.write_text(str(done + 1))
            raise self.error


class Dying(pool.NodeHost):
    """End the process in `start`."""

    def start(self) -> None:
        os._exit(3)


class Given(pool.NodeHost):
    """Take whatever it is given, and raise in the constructor what can be raised."""

    def __init__(self, what: object) -> None:
        if isinstance(what, Exception):
            raise what


def environment(names: list[str]) -> dict[str, str | None]:
    """Return variables of the process's environment."""
    return {name: os.environ.get(name) for name in names}


def nap(seconds: float) -> int:
    """Sleep in a thread."""
    time.sleep(seconds)
    return os.getpid()


async def block_the_loop(seconds: float) -> int:
    """Sleep on the main loop, which an async function must never do."""
    time.sleep(seconds)  # noqa: ASYNC251
    return os.getpid()


def fail(text: str) -> None:
    """Raise an exception of the function's own."""
    raise ValueError(text)


class Odd(Exception):
    """Be an exception that cannot be rebuilt from its arguments."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__("odd")
        self.left, self.right = left, right


def fail_oddly() -> None:
    """Raise an exception that cannot be unpickled."""
    raise Odd(1, 2)


def slowly(item: int) -> int:
    """Return the item a little later."""
    time.sleep(0.02)
    return item


def poison(item: int) -> int:
    """Kill the process at a negative item."""
    if item < 0:
        os._exit(9)
    return item


def fail_at_seven(item: int) -> int:
    """Raise at the item 7."""
    if item == 7:
        raise ValueError("seven")
    return item


def where(item: int) -> tuple[int, int]:
    """Return the item and who answered."""
    time.sleep(0.02)
    return item, os.getpid()


class Held(pool.NodeHost):
    """Get ready only while a file is not there."""

    def __init__(self, held: Path) -> None:
        self.held = held

    async def start(self) -> None:
        while self.held.exists():  # noqa: ASYNC110 - nobody tells of files
            await asyncio.sleep(0.05)


def time_out() -> None:
    """Raise a time-out of the function's own."""
    raise TimeoutError("the function's own")


def visible_devices() -> list[str]:
    """Return the GPUs that Ray gave to this process."""
    import ray

    found: list[str] = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    return found


@dataclass(frozen=True)
class ClerkInfo:
    """Tell of a `Clerk`."""

    desk: str
    pid: int


class Clerk:
    """Be the body of a member's actor, as somebody writes it who needs no hosts."""

    def __init__(self, desk: str) -> None:
        self.desk = desk
        self.bulletin = Bulletin()

    async def start(self, context: Context) -> ClerkInfo:
        return ClerkInfo(self.desk, os.getpid())

    async def check_health(self) -> None:
        pass

    async def lifeline(self, seen: int) -> News:
        return await self.bulletin.after(seen)

    async def drain(self, budget_s: float) -> None:
        pass

    async def restore(self) -> None:
        pass

    async def shutdown(self, budget_s: float) -> None:
        pass

    def stamp(self, number: int) -> str:
        return f"{self.desk}:{number}"


class SlowSecond(pool.NodeHost):
    """Never get ready, on the second host of a replica."""

    async def start(self) -> None:
        if self.index == 1:
            await asyncio.Event().wait()


class Tenant:
    """Be an actor that is nobody's member."""

    def pid(self) -> int:
        return os.getpid()
