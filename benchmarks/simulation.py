"""What a day of a large pool costs in simulation: 10,000 replicas of 8 hosts, 1 % faults an hour.

Run it with `python -m benchmarks.simulation`, or `--quick` for a pool of a hundred.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from itertools import pairwise

import anyio

import pool
from benchmarks.harness import Measured, report
from pool.testing import FaultPlan, SimNode, SimulatedCluster, run
from pool.testing.invariants import validate

REPLICAS, HOSTS = 10_000, 8
GOAL_S = 120.0


@dataclass(frozen=True)
class Day:
    """What a day cost, in seconds of CPU time."""

    bring_up_s: float
    faults_s: float
    drain_s: float
    restarts: int


def play_day(replicas: int, hosts: int, hours: float = 24.0, period_s: float = 300.0) -> Day:
    """Play a pool's day: bring-up, 1 % of the replicas killed an hour, drain; nothing is left.

    Args:
        replicas: How many.
        hosts: Node hosts of each, one a node.
        hours: How long.
        period_s: From one health poll to the next, and from one question after notices.
    """

    async def main() -> Day:
        spare = 2 * hosts + replicas * hosts // 50
        cluster = SimulatedCluster(
            [SimNode(gpus=8)] * (replicas * hosts + spare),
            seed=1,
            faults=FaultPlan(actor_kills_per_h=0.01),
            modelled=True,
            log_kept=1000,
        )
        pool_ = pool.ReplicaPool(
            "r",
            shape=pool.ReplicaShape(devices=8 * hosts),
            cluster=cluster,
            restart=pool.RestartPolicy(intensity=1_000_000),
            health=pool.HealthPolicy(period_s=period_s),
            lease_s=4 * period_s,
            notices=[pool.notices.DrainingNodes(period_s=period_s)],
        )
        faults = 0

        def count(event: pool.Event) -> None:
            nonlocal faults
            faults += event.kind is pool.EventKind.MEMBER_FAULT

        pool_.follow(count)
        laps = [time.process_time()]
        async with pool_:
            result = await pool_.scale(replicas, timeout_s=3600)
            assert result.is_complete
            laps.append(time.process_time())
            await anyio.sleep(hours * 3600)
            laps.append(time.process_time())
            await pool_.wait_settled(60)
            validate(pool_, cluster)
        laps.append(time.process_time())
        assert not cluster.left()
        bring_up_s, faults_s, drain_s = (b - a for a, b in pairwise(laps))
        return Day(bring_up_s, faults_s, drain_s, faults)

    return run(main, limit_s=hours * 3600 * 2 + 7200)


def main(replicas: int) -> None:
    """Play one day and report the CPU time of its parts. One round: it takes a minute or more."""
    logging.disable(logging.CRITICAL)
    day = play_day(replicas, HOSTS, period_s=600.0)
    total = day.bring_up_s + day.faults_s + day.drain_s
    report(
        "Simulation",
        [
            Measured("bring-up, CPU time", None, [day.bring_up_s]),
            Measured("24 h with 1 % faults an hour, CPU time", None, [day.faults_s]),
            Measured("drain, CPU time", None, [day.drain_s]),
            Measured(f"all of it: {replicas:,} replicas of {HOSTS} hosts", GOAL_S, [total]),
        ],
        faults=day.restarts,
        health_period_s=600,
    )


if __name__ == "__main__":
    main(100 if "--quick" in sys.argv else REPLICAS)
