"""Where groups go: Ray's own scheduler, which places them as they come, and the pool's planner.

`python -m benchmarks.placement` starts a cluster of three nodes with eight logical GPUs each. Ray's
side makes placement groups as frameworks do, in the order in which roles come up; the pool's side
is real pools. Nothing is timed: what counts is what found a place, and what was left.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from rich.console import Console
from rich.table import Table

import pool
from benchmarks.embedded import RELAXED, embedded_cluster

NODES, GPUS = 3, 8
WAIT_S = 10.0
"""A group that has its place at all has it within milliseconds."""
GIVEN_BACK_S = 10.0
CPUS_PER_DEVICE = 0.1
RESULT = Path(__file__).parent / "results" / "placement.json"


@dataclass(frozen=True)
class Outcome:
    """Say what came of one round.

    Args:
        case: What was asked for.
        who: Who placed it.
        placed: How many groups found their place.
        asked: How many there were.
        whole: How many nodes have all of their devices left.
        switches: How often a rank and the next are on different nodes; None where it is not asked.
    """

    case: str
    who: str
    placed: int
    asked: int
    whole: int
    switches: int | None = None


Bundles = list[dict[str, float]]


def bundle(devices: int) -> dict[str, float]:
    """Return a bundle of so many devices."""
    return {"GPU": devices, "CPU": CPUS_PER_DEVICE * devices}


@contextmanager
def groups_as_they_come(asked: Sequence[tuple[Bundles, str]]) -> Iterator[list[Any]]:
    """Make groups one after the other, as roles that know nothing of each other do."""
    made = []
    try:
        for bundles, strategy in asked:
            made.append(placement_group(bundles, strategy=strategy))
            made[-1].wait(WAIT_S)
        yield made
    finally:
        for group in made:
            remove_placement_group(group)
        settle()


def settle() -> None:
    """Wait until every device is free again, as Ray sees it."""
    until = time.monotonic() + GIVEN_BACK_S
    while ray.available_resources().get("GPU", 0) < NODES * GPUS and time.monotonic() < until:
        time.sleep(0.1)


def rays(case: str, asked: Sequence[tuple[Bundles, str]], *, ranked: bool = False) -> Outcome:
    """Let Ray's scheduler place groups in the order that they are given in."""
    with groups_as_they_come(asked) as made:
        tables = [placement_group_table(group) for group in made]
    placed = [table for table in tables if table["state"] == "CREATED"]
    nodes = [list(table["bundles_to_node_id"].values()) for table in placed]
    in_use = {node for each in nodes for node in each}
    switches = count_switches(nodes[0]) if ranked and nodes else None
    return Outcome(case, "Ray", len(placed), len(asked), NODES - len(in_use), switches)


def count_switches(nodes: Sequence[str]) -> int:
    """Count how often one and the next are on different nodes."""
    return sum(one != other for one, other in itertools.pairwise(nodes))


async def ours(
    case: str, sizes: dict[str, int], shapes: dict[str, int], *, ranked: bool = False
) -> Outcome:
    """Let a program place the same roles, in the same order."""
    roles = [
        pool.ReplicaPool(
            name,
            shape=pool.ReplicaShape(devices=devices, cpus_per_device=CPUS_PER_DEVICE),
            placement=pool.Shared() if devices > GPUS else pool.Separate(),
            start_timeout_s=300,
        )
        for name, devices in shapes.items()
    ]
    async with pool.Program(*roles) as program:
        await program.scale(sizes, timeout_s=300)
        members = [member for role in roles for member in role.members()]
        in_use = {node for member in members for node in member.nodes}
        switches = None
        if ranked and members[0].info is not None:
            hosts = members[0].info.hosts
            ranks = [host.node_id for host in hosts for _ in range(int(host.bundle["GPU"]))]
            switches = count_switches(ranks)
    await asyncio.to_thread(settle)
    asked = sum(sizes.values())
    return Outcome(case, "pool", len(members), asked, NODES - len(in_use), switches)


SIX = "6 replicas of 2"
RANKS = "17 ranks in one group"
MIX = "4 rollouts of 2, then a training of 16"
MANY = "4 rewards of 1, 3 rollouts of 4, then a training of 8"

RAYS: dict[str, Callable[[], Outcome]] = {
    SIX: lambda: rays(SIX, [([bundle(2)], "PACK")] * 6),
    RANKS: lambda: rays(RANKS, [([bundle(1)] * 17, "PACK")], ranked=True),
    MIX: lambda: rays(MIX, [([bundle(2)], "PACK")] * 4 + [([bundle(8)] * 2, "STRICT_SPREAD")]),
    MANY: lambda: rays(
        MANY,
        [([bundle(1)], "PACK")] * 4 + [([bundle(4)], "PACK")] * 3 + [([bundle(8)], "PACK")],
    ),
}
OURS: dict[str, Callable[[], Any]] = {
    SIX: lambda: ours(SIX, {"small": 6}, {"small": 2}),
    RANKS: lambda: ours(RANKS, {"train": 1}, {"train": 17}, ranked=True),
    MIX: lambda: ours(MIX, {"rollout": 4, "train": 1}, {"rollout": 2, "train": 16}),
    MANY: lambda: ours(
        MANY,
        {"reward": 4, "rollout": 3, "train": 1},
        {"reward": 1, "rollout": 4, "train": 8},
    ),
}


def main() -> None:
    """Place everything in turn, so many rounds, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of each")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    outcomes: list[Outcome] = []
    with embedded_cluster(NODES, GPUS, **RELAXED):
        for _ in range(rounds):
            for case, by_ray in RAYS.items():
                outcomes.append(by_ray())
                outcomes.append(asyncio.run(OURS[case]()))
    show(outcomes)
    if not options.quick:
        RESULT.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")


def show(outcomes: Sequence[Outcome]) -> None:
    """Print what came of each case, the rounds beside each other."""
    table = Table("on 3 nodes of 8", "placed by", "found a place", "nodes left whole", "switches")
    for case in RAYS:
        for who in ("Ray", "pool"):
            mine = [each for each in outcomes if (each.case, each.who) == (case, who)]
            switches = [str(each.switches) for each in mine if each.switches is not None]
            table.add_row(
                case,
                who,
                ", ".join(f"{each.placed} of {each.asked}" for each in mine),
                ", ".join(str(each.whole) for each in mine),
                ", ".join(switches),
            )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
