"""What the tests of managed processes share."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pool.process import marker, pids
from pool.process.order import Launch
from pool.process.pids import ProcessId

T = TypeVar("T")

TREES = Path(__file__).with_name("trees.py")
OWNER = Path(__file__).with_name("owner.py")
FAMILY = ("main", "child", "session", "stopped", "daemon")
NAMELESS = ("main", "child")


def identity() -> str:
    """Return what names this run of the tests in every marker, and for each warden in `ps`."""
    return f"test-{os.getpid()}/0.1"


def spec(folder: Path, *argv: str, **changes: Any) -> Launch:
    defaults: dict[str, Any] = {
        "env": {"PATH": os.environ["PATH"]},
        "cwd": None,
        "log": folder / "log",
        "grace_s": 0.2,
        "identity": identity(),
    }
    return Launch(argv=argv, **{**defaults, **changes})


def tree(folder: Path, kind: str, **changes: Any) -> Launch:
    return spec(folder, sys.executable, "-I", "-S", str(TREES), kind, str(folder), **changes)


def python(folder: Path, code: str, *arguments: str, **changes: Any) -> Launch:
    return spec(folder, sys.executable, "-I", "-S", "-c", code, *arguments, **changes)


def log_of(what: Launch) -> str:
    """Return the log without the lines of the warden's own."""
    lines = what.log.read_text().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("--- "))


def parts(folder: Path, names: tuple[str, ...], timeout_s: float = 10) -> dict[str, ProcessId]:
    """Return who plays the parts of a tree, once all are there; those that stop, stopped."""

    def there() -> dict[str, ProcessId] | None:
        found = {}
        for name in names:
            try:
                process = pids.of(int((folder / name).read_text()))
            except (OSError, ValueError):
                return None
            if process is None or (name == "stopped" and _state(process.pid) != "T"):
                return None
            found[name] = process
        return found

    return until(there, f"the parts of the tree in {folder}", timeout_s)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def alive(processes: dict[str, ProcessId]) -> list[str]:
    return [name for name, process in processes.items() if pids.is_alive(process)]


def until(condition: Callable[[], T | None], what: str, timeout_s: float = 10) -> T:
    ends_at = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < ends_at, f"not within {timeout_s} s: {what}"
        time.sleep(0.005)
    return found


async def until_async(condition: Callable[[], object], what: str, timeout_s: float = 10) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.005)


_others: set[ProcessId] = set()


def begin() -> None:
    """Call at the start of a test: the zombies that are there are not its, but a cluster's, say."""
    _others.update(_zombies())


def _zombies() -> frozenset[ProcessId]:
    me = os.getpid()
    return frozenset(
        ProcessId(seen.pid, seen.created)
        for seen in pids.everybody()
        if seen.parent == me and seen.is_ended
    )


def left() -> list[str]:
    """Return what carries this run's name: the tree by its mark, its wardens by their arguments."""
    found = [
        f"{process} of {its}"
        for process, its in marker.marked().items()
        if its.identity == identity()
    ]
    found += [f"zombie {process}" for process in _zombies() - _others]
    for seen in pids.everybody():
        try:
            argv = Path(f"/proc/{seen.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if identity().encode() in argv and not seen.is_ended:
            found.append(f"warden {seen.pid}")
    return found


class Owner:
    """A process that owns a managed one, to be killed."""

    def __init__(self, what: Launch) -> None:
        fields = {
            "argv": what.argv,
            "env": dict(what.env),
            "cwd": what.cwd,
            "log": str(what.log),
            "grace_s": what.grace_s,
            "identity": what.identity,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(OWNER), json.dumps(fields)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = json.loads(self._read())
        self.main = ProcessId.parse(said["main"])
        self.warden = ProcessId.parse(said["warden"])

    def tell(self, word: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
