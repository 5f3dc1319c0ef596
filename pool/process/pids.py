"""Which process is meant: a pid and when it was created, since a pid alone is used again.

Signals go through a descriptor of the process (pidfd) that is compared with the time of creation
after it was opened, so no stranger who has got the pid is ever hit. Where the kernel or this
Python has no pidfd (before Linux 5.3), the comparison and the signal are two steps, a few
microseconds apart.

A zombie counts as gone: nothing of it runs, and it is its parent's to bury, not ours.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pool.process import warden

POLL_S = 0.01
"""Between two looks, where no descriptor can be waited for."""


@dataclass(frozen=True, slots=True, order=True)
class ProcessId:
    """One process, for good.

    Attributes:
        pid: Its number, in this PID namespace.
        created: When it was created, in clock ticks since the machine was booted.
    """

    pid: int
    created: int

    def __str__(self) -> str:
        return f"{self.pid}:{self.created}"

    @classmethod
    def parse(cls, text: str) -> ProcessId:
        """Return what `str` made.

        Raises:
            ValueError: It is nothing of the kind.
        """
        pid, created = text.split(":")
        return cls(int(pid), int(created))


def of(pid: int) -> ProcessId | None:
    """Return who has this pid now; None if nobody has, or a zombie."""
    seen = warden.look(pid)
    return None if seen is None or seen.is_ended else ProcessId(pid, seen.created)


def myself() -> ProcessId:
    """Return this process."""
    seen = warden.look(os.getpid())
    if seen is None:
        raise OSError("/proc does not show this process; `pool.process` needs Linux and its /proc")
    return ProcessId(seen.pid, seen.created)


def everybody() -> Iterator[warden.Seen]:
    """Yield every process that is there, zombies too, the youngest first as far as pids tell."""
    for pid in warden.everybody():
        seen = warden.look(pid)
        if seen is not None:
            yield seen


def is_alive(process: ProcessId) -> bool:
    """Return whether exactly this process is there and no zombie."""
    return of(process.pid) == process


def send(process: ProcessId, number: int) -> bool:
    """Send a signal to exactly this process.

    Returns:
        False if it is gone.

    Raises:
        PermissionError: It runs as another user.
    """
    return warden.send(process.pid, process.created, number)


def hold(process: ProcessId) -> int | None:
    """Return a descriptor that gets readable when the process ends; None if there are none here.

    The caller closes it.

    Raises:
        ProcessLookupError: It is gone already.
    """
    return warden.hold(process.pid, process.created)


def descendants(process: ProcessId) -> list[ProcessId]:
    """Return the children of the process, theirs and so on, parents first; no zombies.

    Found by the pids of parents, so an orphan is found only below whoever has adopted it.
    """
    seen = list(everybody())
    if not any((one.pid, one.created) == (process.pid, process.created) for one in seen):
        return []
    return [
        ProcessId(one.pid, one.created)
        for one in warden.below(process.pid, seen)
        if not one.is_ended
    ]


def wait_gone(processes: Iterable[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Block until all of the processes are gone, and return who is not after `timeout_s`."""
    ends_at = time.monotonic() + timeout_s
    left = []
    for process in processes:
        try:
            descriptor = hold(process)
        except ProcessLookupError:
            continue
        if descriptor is not None:
            try:
                waiter = select.poll()
                waiter.register(descriptor, select.POLLIN)
                waiter.poll(max(0.0, ends_at - time.monotonic()) * 1000)
            finally:
                os.close(descriptor)
        while is_alive(process) and time.monotonic() < ends_at:
            time.sleep(POLL_S)
        if is_alive(process):
            left.append(process)
    return left
