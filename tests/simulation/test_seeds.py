"""Whole lives of pools, each from one seed: everything goes wrong, then nothing, then it closes.

`play` raises with the end of the log when an invariant breaks; the seed is the test's parameter.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pool.testing import FaultPlan
from tests.simulation.scenario import CONVERGES_S, play

ROOT = Path(__file__).parents[2]


def test_whatever_happens_the_invariants_hold_and_the_pool_settles_when_it_stops(seed: int) -> None:
    outcome = play(seed)
    assert outcome.settled_s <= CONVERGES_S


def test_one_seed_gives_one_log_byte_for_byte() -> None:
    first, second = play(3, hours=0.3), play(3, hours=0.3)
    assert first.cluster.log == second.cluster.log
    assert first.digest == second.digest


def test_another_seed_gives_another_log() -> None:
    assert play(3, hours=0.1).digest != play(4, hours=0.1).digest


def test_a_seed_gives_the_same_log_in_another_process_with_other_hashes() -> None:
    program = "from tests.simulation.scenario import play; print(play(3, hours=0.2).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hashes, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(digests) == 1
    assert digests == {f"{play(3, hours=0.2).digest}\n"}


QUIET = FaultPlan(
    # A poll is under way for a good part of the time, so that stalls meet it.
    call_s=(0.1, 0.3),
    stalls_per_h=60,
    stall_s=(0.1, 1.8),
    source_unavailable=0.3,
    poll_unavailable=0.3,
)
"""Nothing is wrong with any member; it is only that nobody can tell."""


def test_a_driver_that_stands_still_and_a_checker_that_cannot_ask_judge_nobody() -> None:
    """INV-9. Not one member is suspected, or lost, although every minute something fails."""
    for seed in range(3):
        outcome = play(seed, faults=QUIET, lease_s=60.0)
        assert not outcome.faults
        assert not [line for line in outcome.cluster.log if "state=suspect" in line]


LONG_STALLS = FaultPlan(stalls_per_h=20, stall_s=(5.0, 60.0))


def test_after_a_long_standstill_nobody_is_judged() -> None:
    """INV-9. Replicas stand still together with the driver, as in a machine that is suspended."""
    for seed in range(3):
        assert not play(seed, faults=LONG_STALLS).faults
