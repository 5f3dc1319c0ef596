"""A minute of the soak, with one seed: random faults on a real Ray, and nothing is left."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from tests.soak.script import draws

ROOT = Path(__file__).parents[2]
SEED = 4
LIMIT_S = 540
"""A minute of faults, and what starting the nodes, settling and closing take on a busy machine."""


def test_the_seed_alone_decides_what_is_drawn() -> None:
    assert list(islice(draws(SEED, 10), 100)) == list(islice(draws(SEED, 10), 100))
    assert list(islice(draws(SEED, 10), 100)) != list(islice(draws(SEED + 1, 10), 100))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 30)
def test_pools_under_random_faults_break_no_invariant_and_leave_nothing() -> None:
    """INV-1, INV-2, INV-4, INV-5, INV-12. The cluster is one of its own, in another process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--minutes", "1", "--seed", str(SEED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
