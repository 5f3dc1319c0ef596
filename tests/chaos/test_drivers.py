"""Drivers that are ended from outside: nothing of theirs stays on the cluster (INV-4)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.world import World

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]


@contextmanager
def driver(world: World, phase: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Start a driver, and give it, with what it said, once it is in the phase."""
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.driver", world.cluster.address, phase, str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (folder / "stderr").read_text()
        said = json.loads(line)
        world.watch(*said["pids"])
        yield process, said
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        process.stdout.close()


def last_words(process: subprocess.Popen[str]) -> list[Any]:
    assert process.stdout is not None
    return [json.loads(line) for line in process.stdout if line.startswith("{")]


def test_ctrl_c_runs_the_shutdown_hooks_first(world: World, tmp_path: Path) -> None:
    """Fault matrix: Ctrl-C, under `anyio.run` as under `asyncio.run`."""
    with driver(world, "ready", tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        process.wait(30)
        words = last_words(process)
    assert {"reports": [["hook"]], "leftovers": []} in words, (tmp_path / "stderr").read_text()
    assert {"interrupted": True} in words
    assert (tmp_path / "driven_0.1_0.1").exists(), "the host's shutdown hook ran"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_ended_at_once_takes_its_pool_with_it(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    """Groups and actors are owned by the driver; Ray removes them when it dies.

    NB: Ray ends a driver at once at SIGTERM, as at SIGKILL: no hook of anybody runs.
    """
    with driver(world, "ready", tmp_path) as (process, said):
        assert said["pids"]
        process.send_signal(number)
        ended = time.monotonic()
        process.wait(30)
        world.check_nothing_is_left()
        print(f"gone after {time.monotonic() - ended:.2f} s")


def test_ctrl_c_while_a_member_starts_leaves_nothing(world: World, tmp_path: Path) -> None:
    with driver(world, "starting", tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        process.wait(30)
        words = last_words(process)
    assert {"reports": [["kill"]], "leftovers": []} in words, (tmp_path / "stderr").read_text()
    assert {"interrupted": True} in words


def test_ctrl_c_in_a_blocking_script_drains_its_pool(world: World, tmp_path: Path) -> None:
    with driver(world, "blocking", tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        process.wait(30)
        words = last_words(process)
    assert {"interrupted": True} in words, (tmp_path / "stderr").read_text()
    assert (tmp_path / "driven_0.1_0.1").exists(), "the host's shutdown hook ran"
