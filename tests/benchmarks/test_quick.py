"""Each benchmark runs: one quick round of each, of which no time is looked at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 900
PURE = ("planning", "simulation", "scale", "window")
REAL = ("placement", "supervision", "workers", "footprint", "dispatch")

pytestmark = pytest.mark.timeout(LIMIT_S + 60)


@pytest.mark.parametrize("scenario", PURE)
def test_a_scenario_without_ray_runs(scenario: str) -> None:
    check_runs(scenario)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("scenario", REAL)
def test_a_scenario_on_ray_runs(scenario: str) -> None:
    check_runs(scenario)


def check_runs(scenario: str) -> None:
    """Run a scenario in a process group of its own, which ends with the test."""
    run = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{scenario}", "--quick"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        said, _ = run.communicate()
        pytest.fail(f"it did not end in {LIMIT_S} s and said: {said[-3000:]}")
    assert run.returncode == 0, said[-3000:]
    assert said.strip(), "it prints what it measured"
