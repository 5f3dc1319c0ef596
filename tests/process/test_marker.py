"""The mark that finds what is left, and that nobody else is ever touched (INV-10)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pool.process import marker, pids
from pool.process.marker import VARIABLE, Marker
from pool.process.pids import ProcessId
from tests.process.support import identity, until

ALIVE = pids.myself()
GONE = ProcessId(ALIVE.pid, ALIVE.created - 1)
"""Somebody who had the pid of this process before."""
SPACE = marker.here()


@contextmanager
def marked(mark: object, **options: int) -> Iterator[ProcessId]:
    with subprocess.Popen(["sleep", "60"], env={VARIABLE: str(mark)}, **options) as process:  # type: ignore[call-overload]
        try:
            found = pids.of(process.pid)
            assert found is not None
            until(lambda: str(mark).encode() in _environment(process.pid), "its start")
            yield found
        finally:
            process.kill()


def _environment(pid: int) -> bytes:
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()


def mark(owner: ProcessId = GONE, warden: ProcessId = GONE, space: str = SPACE) -> Marker:
    return Marker(identity(), space, owner, warden)


def test_a_marker_crosses_as_text() -> None:
    assert Marker.parse(str(mark())) == mark()
    for text in ("", "a", "a|b|1:2", "a|b|1:2|3", "a|b|c:d|3:4", "a|b|1:2|3:4|5"):
        assert Marker.parse(text) is None


def test_where_pids_hold_names_the_boot_and_the_namespace() -> None:
    """The first namespace has the same number on every machine."""
    boot, number = SPACE.split("/")
    assert len(boot) == 36
    assert os.readlink("/proc/self/ns/pid") == f"pid:[{number}]"


def test_a_sweep_kills_who_has_lost_both_and_waits_for_its_end() -> None:
    with marked(mark()) as orphan, marked(mark()) as other:
        marker.sweep()  # or somebody else's, on a machine where more tests run
        assert not pids.is_alive(orphan)
        assert not pids.is_alive(other)
        assert not {orphan, other} & set(marker.sweep())


def test_a_sweep_spares_whoever_makes_it() -> None:
    code = "from pool.process import marker; print(len(marker.sweep()))"
    env = {**os.environ, VARIABLE: str(mark())}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    assert done.stdout == b"0\n"


@pytest.mark.parametrize(
    "its",
    [
        mark(owner=ALIVE),
        mark(warden=ALIVE),
        mark(owner=ALIVE, warden=ALIVE),
        mark(space=SPACE + "1"),
        mark(space="00000000-0000-0000-0000-000000000000/" + SPACE.split("/")[1]),
        "",
        "nonsense",
        f"{mark()}|",
    ],
    ids=["owner lives", "warden lives", "both live", "other namespace", "other machine", *"abc"],
)
def test_a_sweep_touches_nobody_else(its: object) -> None:
    with marked(its) as stranger:
        assert stranger not in marker.sweep()
        time.sleep(0.01)
        assert pids.is_alive(stranger)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run what is another user's")
def test_a_sweep_touches_nobody_of_another_user_even_as_root() -> None:
    with marked(mark(), user=65_534) as stranger:
        assert stranger not in marker.sweep()
        assert marker.remove(mark()) == 0
        assert pids.is_alive(stranger)


def test_a_removal_kills_exactly_those_with_the_marker() -> None:
    one, other = mark(warden=ALIVE), mark(owner=ALIVE)
    with marked(one) as first, marked(one) as second, marked(other) as stranger:
        assert sorted(marker.find(one)) == sorted([first, second])
        assert marker.remove(one) == 2
        assert [pids.is_alive(process) for process in (first, second, stranger)] == [
            False,
            False,
            True,
        ]
        assert marker.remove(one) == 0


def test_a_removal_by_session_leaves_a_session_whose_number_is_used_again() -> None:
    with marked("", start_new_session=True) as leader:
        before = ProcessId(leader.pid, leader.created - 1)
        assert marker.remove(mark(), before) == 0
        assert pids.is_alive(leader)
        assert marker.remove(mark(), leader) == 1
        assert not pids.is_alive(leader)


def test_a_sweep_is_cheap() -> None:
    began = time.process_time()
    marker.sweep()
    assert time.process_time() - began < 1
