"""After each test nothing of what it launched is left: no process, warden, zombie or descriptor."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pool.process import pids
from pool.process.pids import ProcessId
from tests.process.support import begin, left, until


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    begin()
    before = _descriptors()
    yield
    until(lambda: not left(), "the end of what the test has launched", timeout_s=5)
    assert _descriptors() <= before, "the test left descriptors open"


@pytest.fixture
def others() -> frozenset[ProcessId]:
    """Who descends from this process before the test: a cluster of other tests, say."""
    return frozenset(pids.descendants(pids.myself()))


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
