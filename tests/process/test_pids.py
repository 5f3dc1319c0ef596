"""A pid is trusted only together with when its process was created."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from pool.process import pids, warden
from pool.process.pids import ProcessId
from tests.process.support import until


@pytest.fixture
def sleeper(others: frozenset[ProcessId]) -> Iterator[ProcessId]:
    with subprocess.Popen(["sleep", "60"]) as process:
        found = pids.of(process.pid)
        assert found is not None
        yield found
        process.kill()


@pytest.fixture(params=["pidfd", "no pidfd"])
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no pidfd":
        monkeypatch.delattr(os, "pidfd_open")


def test_an_id_crosses_as_text() -> None:
    assert ProcessId.parse(str(ProcessId(12, 345))) == ProcessId(12, 345)
    for text in ("", "12", "12:", "a:b", "1:2:3"):
        with pytest.raises(ValueError, match=r"invalid literal|unpack"):
            ProcessId.parse(text)


@pytest.mark.usefixtures("_kernel")
def test_a_signal_never_hits_whoever_has_got_the_pid_since(sleeper: ProcessId) -> None:
    before = ProcessId(sleeper.pid, sleeper.created - 1)
    assert not pids.is_alive(before)
    assert not pids.send(before, signal.SIGKILL)
    assert pids.wait_gone([before], 0) == []
    assert pids.descendants(ProcessId(os.getpid(), 1)) == []
    with pytest.raises(ProcessLookupError):
        pids.hold(before)
    assert pids.is_alive(sleeper)


@pytest.mark.usefixtures("_kernel")
def test_a_signal_hits_who_is_meant_and_a_zombie_counts_as_gone(
    sleeper: ProcessId, others: frozenset[ProcessId]
) -> None:
    began = time.monotonic()
    assert pids.wait_gone([sleeper], 0.05) == [sleeper]
    assert time.monotonic() - began >= 0.05
    assert set(pids.descendants(pids.myself())) - others == {sleeper}
    assert pids.send(sleeper, signal.SIGKILL)
    assert pids.wait_gone([sleeper], 5) == []
    seen = warden.look(sleeper.pid)
    assert seen is not None, "nobody has waited for it, so it is a zombie"
    assert not pids.is_alive(sleeper)
    assert not pids.send(sleeper, signal.SIGKILL)
    assert set(pids.descendants(pids.myself())) <= others


def test_a_name_with_brackets_and_blanks_is_no_matter() -> None:
    rest = b" S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 4711 0 0"
    seen = warden.Seen(5, b"5 (a) Z (b\n) c)" + rest)
    assert (seen.parent, seen.group, seen.session, seen.created) == (7, 8, 9, 4711)
    assert not seen.is_ended


def test_descendants_are_found_by_their_parents_alone_and_parents_come_first(
    others: frozenset[ProcessId],
) -> None:
    """The file `children` of /proc is not in every kernel."""
    code = "(sleep 60 & wait) & sleep 60 & echo; wait"
    with subprocess.Popen(["sh", "-c", code], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()

        def all_four() -> list[ProcessId] | None:
            found = [each for each in pids.descendants(pids.myself()) if each not in others]
            return found if len(found) == 4 else None

        found = until(all_four, "the shell's family")
        assert found[0].pid == shell.pid
        for process in found:
            pids.send(process, signal.SIGKILL)
        assert pids.wait_gone(found, 5) == []


def test_nobody_is_nobody() -> None:
    assert pids.of(2**30) is None
    assert pids.of(os.getpid()) == pids.myself()
