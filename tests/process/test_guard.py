"""The guard of a process: whatever that one had started ends with it, and nobody else (INV-10)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pool.process import marker, pids
from pool.process.marker import Marker
from pool.process.pids import ProcessId
from tests.process.support import FAMILY, alive, identity, left, parts, until

WARD = Path(__file__).with_name("ward.py")


@contextmanager
def ward(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(WARD), str(folder), identity()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def family_of(folder: Path) -> dict[str, ProcessId]:
    nested = parts(folder / "nested", FAMILY)
    forked = parts(folder, ("forked",))
    return {
        **parts(folder, FAMILY),
        **{f"nested {name}": process for name, process in nested.items()},
        **forked,
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None])
def test_nothing_that_a_process_started_outlives_it(
    tmp_path: Path, number: signal.Signals | None
) -> None:
    with ward(tmp_path) as process:
        family = family_of(tmp_path)
        if number is None:
            process.communicate("exit\n")
        else:
            process.send_signal(number)
        process.wait()
        until(lambda: not alive(family), f"the end of {alive(family)}", 20)
        until(lambda: not left(), f"the end of the guard: {left()}", 20)


def test_whoever_is_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """INV-10: one of another owner, one of the same name, one of another machine, one unmarked."""
    me, nobody = pids.myself(), ProcessId(os.getpid(), 1)
    with ward(tmp_path) as process:
        family = family_of(tmp_path)
        owner = pids.of(process.pid)
        assert owner is not None
        marks = [
            str(Marker(identity(), marker.here(), me, me)),
            str(Marker("elsewhere", "another/1", owner, nobody)),
            str(Marker(identity(), marker.here(), ProcessId(owner.pid, 1), me)),
            "nonsense",
        ]
        others = [
            subprocess.Popen(["sleep", "60"], env={**os.environ, marker.VARIABLE: mark})
            for mark in marks
        ]
        process.kill()
        until(lambda: not alive(family), f"the end of {alive(family)}", 20)
        until(lambda: not guards(), "the end of the guard", 20)
        try:
            assert [other.poll() for other in others] == [None] * len(others)
        finally:
            for other in others:
                other.kill()
                other.wait()


def guards() -> list[str]:
    return [line for line in left() if line.startswith("warden")]
