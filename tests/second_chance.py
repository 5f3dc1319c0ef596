"""Which tests are tried again when they fail: those that race with a machine they do not own.

Tests on a real Ray, on real processes or on a real Slurm wait for things that a busy machine may
take any time for. One that fails is tried once more, at most five in a run; the summary shows each
of them with what failed, so that a race of ours is seen and mended all the same. Folders that are
deterministic throughout have one chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

DETERMINISTIC = ("api", "benchmarks", "dispatch", "manager", "planning", "simulation")
"""The folders whose tests are pure, or run in virtual time."""

ROOT = Path(__file__).parent


def give_second_chances(items: Iterable[pytest.Item]) -> None:
    """Mark the tests that are tried again."""
    for item in items:
        folder, *_ = item.path.relative_to(ROOT).parts
        if folder not in DETERMINISTIC or item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=2))
