"""Drivers that are ended from outside: nothing of theirs stays on the cluster (INV-4).

Most of them live on, and open their next pool: what such a driver leaves, Ray does not remove.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tree import every_gpu_taken
from tests.world import World

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
INT, TERM = signal.SIGINT, signal.SIGTERM
AT_ONCE_S = 5.0
"""An end that waits for nobody; a hook or work that is waited for takes longer than that."""


class Driver:
    """A driver that goes through some phases; see `tests.chaos.driver`."""

    def __init__(self, world: World, folder: Path, phases: tuple[str, ...]) -> None:
        self._world = world
        self._folder = folder
        command = [sys.executable, "-m", "tests.chaos.driver", world.cluster.address, str(folder)]
        with (folder / "stderr").open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *phases],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def enter(self) -> Any:
        """Begin the next phase, and return what the driver says when it is there."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        said = self._hear()
        self._world.watch(*said["pids"])
        return said

    def end(self, *numbers: signal.Signals) -> tuple[dict[str, Any], float]:
        """Send signals, a second apart; return what the driver said, and when it was out."""
        for count, number in enumerate(numbers):
            if count:
                time.sleep(1)
            self.process.send_signal(number)
        ended = time.monotonic()
        words: dict[str, Any] = {}
        while "end" not in words:
            words |= self._hear()
        took_s = time.monotonic() - ended
        assert words.get("leftovers", []) == []
        return words, took_s

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self._folder / "stderr").read_text()
        said: dict[str, Any] = json.loads(line)
        return said

    def close(self) -> int:
        """Let it end by itself, and return its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)


@contextlib.contextmanager
def driver(world: World, folder: Path, *phases: str) -> Iterator[Driver]:
    """Start a driver, and make sure of its end."""
    made = Driver(world, folder, phases)
    process = made.process
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        process.stdin.close()
        process.stdout.close()


def test_ctrl_c_in_each_phase_leaves_nothing_while_the_driver_lives_on(
    world: World, tmp_path: Path
) -> None:
    """Fault matrix: Ctrl-C in every phase, under `asyncio.run`."""
    wanted = {
        "starting": [["kill"]],
        "ready": [["hook"]],
        "draining": [["hook", "the wait for work in flight was cut short"]],
    }
    with driver(world, tmp_path, "reserving", *wanted) as one:
        with every_gpu_taken():
            assert one.enter()["states"] == ["pending"]
            words, took_s = one.end(INT)
        assert (words["reports"], words["interrupted"]) == ([["gone"]], True)
        assert took_s < AT_ONCE_S
        world.check_nothing_is_left()
        for phase, reports in wanted.items():
            assert one.enter()["states"] == [phase]
            words, took_s = one.end(INT)
            assert (words["reports"], words["interrupted"]) == (reports, True)
            assert took_s < AT_ONCE_S
            world.check_nothing_is_left()
        assert one.close() == 0
    assert (tmp_path / "driven_0.1_0.1").exists(), "the host's shutdown hook ran"


def test_a_second_ctrl_c_ends_a_close_that_hangs_while_the_driver_lives_on(
    world: World, tmp_path: Path
) -> None:
    """The event loop is torn down by then; what is left to do is done all the same."""
    with driver(world, tmp_path, "closing", "stuck", "blocking:stuck", "blocking:closing") as one:
        for _ in range(4):
            assert one.enter()["states"] == ["ready"]
            words, took_s = one.end(INT, INT)
            assert words["interrupted"]
            assert took_s < AT_ONCE_S
            for [rung, *troubles] in words.get("reports", []):
                assert rung == "kill"
                assert "cut short" in " ".join(troubles)
            world.check_nothing_is_left()
        assert one.close() == 0


def test_a_second_ctrl_c_that_ends_the_driver_leaves_nothing(world: World, tmp_path: Path) -> None:
    with driver(world, tmp_path, "stuck") as one:
        one.enter()
        one.end(INT, INT)
        one.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_ended_at_once_takes_its_pool_with_it(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    """Groups and actors are owned by the driver; Ray removes them when it dies.

    NB: at SIGTERM Ray's handler exits the interpreter, wherever that is; whether hooks run is luck.
    """
    with driver(world, tmp_path, "ready") as one:
        assert one.enter()["pids"]
        one.process.send_signal(number)
        ended = time.monotonic()
        one.process.wait(30)
        world.check_nothing_is_left()
        print(f"gone after {time.monotonic() - ended:.2f} s")
    if number is signal.SIGKILL:
        assert not (tmp_path / "driven_0.1_0.1").exists()


def test_sigterm_runs_the_hooks_and_a_second_one_hurries_in_a_block_that_catches_it(
    world: World, tmp_path: Path
) -> None:
    """The same in a script without asyncio."""
    phases = ("ready", "draining", "stuck", "closing", "blocking:ready", "blocking:stuck")
    with driver(world, tmp_path, *(f"stop:{phase}" for phase in phases)) as one:
        for phase in phases:
            one.enter()
            hangs = phase.endswith(("stuck", "closing"))
            words, took_s = one.end(*[TERM] * (1 + hangs))
            assert not words["interrupted"]
            assert (words["received"], words["count"]) == (TERM, 1 + hangs)
            assert words["exit_code"] == 143
            assert took_s < AT_ONCE_S
            for [rung, *_] in words.get("reports", []):
                assert rung == ("kill" if hangs else "hook")
            world.check_nothing_is_left()
            if phase.endswith("ready"):
                (tmp_path / "driven_0.1_0.1").unlink()  # The host's shutdown hook ran.
        assert one.close() == 0


def test_ctrl_c_in_a_blocking_script_drains_its_pool(world: World, tmp_path: Path) -> None:
    with driver(world, tmp_path, "blocking:ready", "blocking:scaling") as one:
        for _ in range(2):
            one.enter()
            words, took_s = one.end(INT)
            assert words["interrupted"] == (words["end"] == "blocking:ready")
            assert took_s < AT_ONCE_S
            world.check_nothing_is_left()
        assert one.close() == 0
    assert (tmp_path / "driven_0.1_0.1").exists(), "the host's shutdown hook ran"
