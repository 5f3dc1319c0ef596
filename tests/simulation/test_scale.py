"""A pool of hundreds, modelled, through a day of faults: what the benchmark plays in any size."""

from __future__ import annotations

import pool
from benchmarks.simulation import play_day
from pool.testing import SimNode, SimulatedCluster, run


def test_a_pool_of_200_replicas_with_8_hosts_has_a_day() -> None:
    day = play_day(200, 8)
    # 200 replicas × 24 h × 1 % are 48.
    assert 20 < day.restarts < 100


def test_who_waits_is_asked_a_few_times_however_many_wait() -> None:
    """Or a bring-up takes time with the square of its size: 20 s of CPU for 4,000 replicas."""

    class Asked(pool.ReplicaPool):
        times = 0

        def _unplaced(self) -> list[int]:
            self.times += 1
            return super()._unplaced()

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 50, modelled=True)
        shape = pool.ReplicaShape(devices=1)
        async with Asked("r", shape=shape, cluster=cluster) as replicas:
            assert (await replicas.scale(400, timeout_s=600)).is_complete
            assert 1 <= replicas.times <= 10

    run(main)
