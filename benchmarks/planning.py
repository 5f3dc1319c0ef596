"""How long the planners take: reconcile up to 10⁵ slots, and packing 2,000 replicas.

Run it with `python -m benchmarks.planning`, or `--quick` to see only that it runs.
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import replace
from functools import partial

from benchmarks.harness import Contestant, Measured, race, report
from pool.planning.lifecycle import State
from pool.planning.packing import Request, pack
from pool.planning.plan import Goal, Role, SlotView
from pool.planning.reconcile import reconcile
from pool.planning.resources import Resources
from pool.planning.shape import ReplicaShape, plan_shape
from pool.planning.topology import Node, Topology

CHANGED = 0.01
SIZES = (1_000, 10_000, 100_000)
GOALS_S = {10_000: 0.010, 100_000: 0.150}
REPLICAS, NODES = 2_000, 5_000
PACK_GOAL_S = 0.250


def slots(count: int) -> list[SlotView]:
    """Return a pool of which one slot in a hundred is not as it should be, each in its own way."""
    chance = random.Random(1)
    ways = [
        {"fault": "died"},
        {"state": None},
        {"leave_by": 500.0},
        {"state": State.STARTING},
        {"state": State.SUSPECT},
        {"role": Role.RETIRING, "rank": None},
    ]
    made = [SlotView(index=index, rank=index, state=State.READY) for index in range(count)]
    for index in chance.sample(range(count), int(count * CHANGED)):
        made[index] = replace(made[index], **chance.choice(ways))  # type: ignore[arg-type]
    return made


def topology(count: int) -> Topology:
    """Return nodes of eight GPUs, some of which are partly in use."""
    chance = random.Random(2)
    total = Resources({"CPU": 64, "GPU": 8})
    nodes = [
        Node(
            node_id=f"node-{number}",
            address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            total=total,
            available=Resources({"CPU": 64, "GPU": chance.choice([2, 4, 8, 8])}),
        )
        for number in range(count)
    ]
    return Topology(tuple(nodes))


def exponent(measured: list[Measured]) -> float:
    """Fit the power of the size that the time grows with, least squares on logarithms."""
    points = [
        (math.log(size), math.log(each.median_s))
        for size, each in zip(SIZES, measured, strict=True)
    ]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return covariance / sum((x - mean_x) ** 2 for x, _ in points)


def main(rounds: int) -> None:
    """Measure and report."""
    reconciled = race(
        [
            Contestant(
                f"reconcile {size:,} slots, 1 % changed",
                partial(reconcile, slots(size), Goal(desired=size, surge=size // 50), 100.0),
                GOALS_S.get(size),
            )
            for size in SIZES
        ],
        rounds,
    )
    nodes = topology(NODES)
    shapes = [ReplicaShape(devices=devices) for devices in (2, 4, 8, 16)]
    plans = [plan_shape(shape, nodes) for shape in shapes]
    requests = [Request(f"replica {n}", plans[n % len(plans)]) for n in range(REPLICAS)]
    packed = race(
        [
            Contestant(
                f"pack {REPLICAS:,} replicas on {NODES:,} nodes",
                lambda: pack(requests, nodes),
                PACK_GOAL_S,
            )
        ],
        rounds,
    )
    report(
        "Planning",
        [*reconciled, *packed],
        fitted_exponent_of_reconcile=round(exponent(reconciled), 3),
    )


if __name__ == "__main__":
    main(rounds=1 if "--quick" in sys.argv else 9)
