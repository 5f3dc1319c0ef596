"""A pool of hundreds, modelled, through a day of faults: what the benchmark plays in any size."""

from __future__ import annotations

from benchmarks.simulation import play_day


def test_a_pool_of_200_replicas_with_8_hosts_has_a_day() -> None:
    day = play_day(200, 8)
    # 200 replicas × 24 h × 1 % are 48.
    assert 20 < day.restarts < 100
