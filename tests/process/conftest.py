"""After each test nothing of what it launched is left: no process, no warden, no zombie, no socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool.process import marker, pids
from tests.process.support import identity, until


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = _descriptors()
    yield
    until(lambda: not _left(), f"the end of {_left()}", timeout_s=5)
    assert _descriptors() <= before, "the test left descriptors open"


def _left() -> list[str]:
    """Return what carries this run's name: the tree by its mark, its wardens by their arguments."""
    found = [
        f"{process} of {its}"
        for process, its in marker.marked().items()
        if its.identity == identity()
    ]
    me = os.getpid()
    for seen in pids.everybody():
        if seen.parent == me and seen.is_ended:
            found.append(f"zombie {seen.pid}")
        try:
            argv = Path(f"/proc/{seen.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if identity().encode() in argv and not seen.is_ended:
            found.append(f"warden {seen.pid}")
    return found


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
