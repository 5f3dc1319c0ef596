"""Which processes were started, and which of them are still there.

A process is known by its id and the time it was created, for ids are used again. All descendants
are looked up again and again while the demo runs, since one whose parent ended is nobody's
descendant any more, and that is the very one to look for.
"""

from __future__ import annotations

from collections.abc import Iterable

import psutil

VANISH_S = 5.0
"""How long processes whose parent was ended may take to notice that."""


class Footprint:
    """Keep every descendant of this process that was ever seen, from now on."""

    def __init__(self) -> None:
        self._before = set(_descendants())
        self._seen: dict[psutil.Process, None] = {}

    def look(self) -> None:
        """Look for new descendants."""
        for process in _descendants():
            if process not in self._before:
                self._seen.setdefault(process)

    def alive(self, pids: Iterable[int] | None = None) -> list[psutil.Process]:
        """Return those that still run; given process ids, only those of them."""
        wanted = None if pids is None else set(pids)
        return [
            process
            for process in self._seen
            if (wanted is None or process.pid in wanted) and _runs(process)
        ]

    @property
    def size(self) -> int:
        """How many processes were seen."""
        return len(self._seen)

    def end(self) -> list[str]:
        """Kill whatever still runs after a while, and return what that was."""
        self.look()
        psutil.wait_procs(self.alive(), timeout=VANISH_S)
        left = self.alive()
        described = [describe(process) for process in left]
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=5)
        return described


def describe(process: psutil.Process) -> str:
    """Name a process for a reader."""
    try:
        return f"{process.pid} {process.name()}"
    except psutil.Error:
        return str(process.pid)


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _runs(process: psutil.Process) -> bool:
    # NB: equality and `is_running` of psutil's processes compare the creation time as well.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
