"""What one more replica costs its manager, from a thousand to a hundred thousand of them.

Run it with `python -m benchmarks.scale`, or `--quick` for a hundred and a thousand. The cluster is
simulated and the replicas are modelled; the manager is the real one. Each size runs in a process of
its own, so that memory is told apart.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise

import anyio

import pool
from benchmarks.harness import Measured, report
from pool.testing import SimNode, SimulatedCluster, run

SIZES = (1_000, 10_000, 100_000)
PERIOD_S = 60.0
POLLS = 10


@dataclass(frozen=True)
class Cost:
    """What a pool of one size cost its manager.

    Args:
        replicas: How many there were.
        bring_up_s: CPU seconds from none to all ready.
        poll_s: CPU seconds of one health poll of all.
        resident_bytes: What the process held more than with an empty pool.
    """

    replicas: int
    bring_up_s: float
    poll_s: float
    resident_bytes: int


def measure(replicas: int) -> Cost:
    """Bring up, poll some times, and weigh."""

    async def main() -> Cost:
        cluster = SimulatedCluster(
            [SimNode(gpus=8)] * (replicas // 8 + 1), seed=1, modelled=True, log_kept=100
        )
        replica_pool = pool.ReplicaPool(
            "r",
            shape=pool.ReplicaShape(devices=1),
            cluster=cluster,
            health=pool.HealthPolicy(period_s=PERIOD_S),
            lease_s=4 * PERIOD_S,
            notices=[pool.notices.DrainingNodes(period_s=PERIOD_S)],
        )
        async with replica_pool:
            empty = _resident_bytes()
            laps = [time.process_time()]
            result = await replica_pool.scale(replicas, timeout_s=24 * 3600)
            assert result.is_complete, result
            laps.append(time.process_time())
            await anyio.sleep(POLLS * PERIOD_S)
            laps.append(time.process_time())
            full = _resident_bytes()
            replica_pool.hurry()
        bring_up_s, polls_s = (b - a for a, b in pairwise(laps))
        return Cost(replicas, bring_up_s, polls_s / POLLS, full - empty)

    return run(main, limit_s=7 * 24 * 3600)


def _resident_bytes() -> int:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def main(sizes: tuple[int, ...]) -> None:
    """Measure each size in a process of its own, and report what a replica costs at each."""
    rows, facts = [], {}
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", str(size)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        cost = Cost(**json.loads(output.splitlines()[-1]))
        rows += [
            Measured(f"bring-up, CPU a replica, {size:,}", None, [cost.bring_up_s / size]),
            Measured(f"health poll, CPU a replica, {size:,}", None, [cost.poll_s / size]),
        ]
        facts[f"memory_a_replica_{size}"] = f"{cost.resident_bytes / size / 1024:.1f} KiB"
    report("Scale", rows, **facts)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    if "--one" in sys.argv:
        print(json.dumps(asdict(measure(int(sys.argv[-1])))))
    else:
        main((100, 1_000) if "--quick" in sys.argv else SIZES)
