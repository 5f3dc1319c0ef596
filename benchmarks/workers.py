"""What workers cost on a real Ray: rank actors, runs, and managed processes, beside bare Ray's.

Run it with `python -m benchmarks.workers`, or `--quick` to see only that it runs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

import pool
from benchmarks.bare import BareActor, BareGang
from benchmarks.embedded import RELAXED, embedded_cluster
from benchmarks.harness import Measured, report

GPUS = 2
HOSTS = 2
BRING_UP_RATIO = 1.15
RUN_RATIO = 1.15
ADDED_S = 0.050
SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
PATIENT = pool.HealthPolicy(period_s=5, timeout_s=5, failures=1000)

Work = Callable[[], Awaitable[object]]


def pid() -> int:
    """Return the process id."""
    return os.getpid()


class Rank:
    """Do nothing, and say so."""

    def pid(self) -> int:
        """Return the process id."""
        return os.getpid()


class Spawner:
    """Start a process by hand, in a bare actor."""

    def spawn(self) -> int:
        """Start one, and return its id."""
        process = subprocess.Popen(
            SLEEPER, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self._process = process
        return process.pid

    def end(self) -> None:
        """End the last one."""
        self._process.kill()
        self._process.wait()


async def race(rows: list[Measured], works: list[Work], rounds: int) -> None:
    """Do the works in turn, `rounds` counted times each after one that is not."""
    for number in range(rounds + 1):
        for row, work in zip(rows, works, strict=True):
            began = time.perf_counter()
            await work()
            took_s = time.perf_counter() - began
            if number:
                row.rounds_s.append(took_s)


async def bring_up(rounds: int) -> list[Measured]:
    """Start a replica of two hosts with a rank actor per device, and the same by hand."""
    bare = Measured("  bare Ray: the same number of actors")
    shape = f"{HOSTS} hosts, {HOSTS * GPUS} rank actors"
    ours = Measured(f"replica ready, {shape}", beside=bare, goal_ratio=BRING_UP_RATIO)
    for number in range(rounds + 1):
        async with pool.ReplicaPool(
            "ours",
            shape=pool.ReplicaShape(devices=HOSTS * GPUS),
            ranks=pool.Ranks(Rank),
            health=PATIENT,
        ) as replicas:
            began = time.perf_counter()
            result = await replicas.scale(1, timeout_s=120)
            took_s = time.perf_counter() - began
            assert result.is_complete, result
        gang = BareGang([{"GPU": float(GPUS), "CPU": float(GPUS)}] * HOSTS)
        began = time.perf_counter()
        await gang.build()
        ranks = [_bare_rank(gang, bundle) for bundle in range(HOSTS) for _ in range(GPUS)]
        await asyncio.gather(*(rank.pid.remote() for rank in ranks))
        bare_s = time.perf_counter() - began
        for rank in ranks:
            ray.kill(rank)
        gang.remove()
        if number:
            ours.rounds_s.append(took_s)
            bare.rounds_s.append(bare_s)
    return [ours, bare]


def _bare_rank(gang: BareGang, bundle: int) -> Any:
    place = PlacementGroupSchedulingStrategy(gang.group, placement_group_bundle_index=bundle)
    return BareActor.options(
        num_cpus=1, num_gpus=1, max_restarts=0, scheduling_strategy=place
    ).remote()


async def run(rounds: int) -> list[Measured]:
    """Run a function in a fresh process on a warm host, and as a task of Ray's."""
    bare = Measured("  bare Ray: a task in a bundle")
    ours = Measured("one-shot run on a warm host", beside=bare, goal_ratio=RUN_RATIO)
    group = placement_group([{"GPU": GPUS, "CPU": GPUS}])
    await group.ready()
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    make: Any = ray.remote
    task = make(max_calls=1, max_retries=0)(pid).options(
        num_cpus=GPUS, num_gpus=GPUS, scheduling_strategy=place
    )
    async with pool.ReplicaPool(
        "ours", shape=pool.ReplicaShape(devices=GPUS), health=PATIENT
    ) as replicas:
        await replicas.scale(1, timeout_s=120)
        [[host]] = replicas.hosts()

        async def by_hand() -> None:
            await task.remote()

        await race([ours, bare], [functools.partial(host.run, pid), by_hand], rounds)
    remove_placement_group(group)
    return [ours, bare]


async def process(rounds: int) -> list[Measured]:
    """Start a process on a warm host, and by `subprocess.Popen` in a bare actor."""
    bare = Measured("  bare Ray: subprocess.Popen in an actor")
    ours = Measured("process started on a warm host", beside=bare)
    make: Any = ray.remote
    spawner = make(Spawner).remote()
    await spawner.spawn.remote()
    await spawner.end.remote()
    spec = pool.Process(SLEEPER, name="sleeper", devices=0)
    async with pool.ReplicaPool(
        "ours", shape=pool.ReplicaShape(devices=GPUS), health=PATIENT
    ) as replicas:
        await replicas.scale(1, timeout_s=120)
        [[host]] = replicas.hosts()
        for number in range(rounds + 1):
            began = time.perf_counter()
            started = await host.start_process(spec)
            took_s = time.perf_counter() - began
            await started.stop(0)
            began = time.perf_counter()
            await spawner.spawn.remote()
            bare_s = time.perf_counter() - began
            await spawner.end.remote()
            if number:
                ours.rounds_s.append(took_s)
                bare.rounds_s.append(bare_s)
    ray.kill(spawner)
    ours.goal_s = bare.median_s + ADDED_S
    return [ours, bare]


def main(rounds: int) -> None:
    """Measure and report."""
    logging.getLogger("pool").setLevel(logging.CRITICAL)
    measured: list[Measured] = []
    with embedded_cluster(nodes=2 * HOSTS, gpus=GPUS, **RELAXED):
        measured += anyio.run(bring_up, min(rounds, 5))
        measured += anyio.run(run, rounds)
        measured += anyio.run(process, 3 * rounds)
    report("Workers", measured, rounds=rounds)


if __name__ == "__main__":
    main(rounds=1 if "--quick" in sys.argv else 7)
