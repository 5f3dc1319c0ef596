"""Eight replicas: what a poll of them costs the driver, and what draining all of them takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

import pool
from benchmarks.harness import Measured

REPLICAS = 8
SLOW_S = 2.0
DRAIN_RATIO = 1.15
POLL_GOAL_S = 0.001
POLL_PERIOD_S = 0.1
LAP_S = 3.0
FOLD = 16
"""How often each handle stands in a poll of many: what it costs the driver is the same."""


class SlowOne(pool.NodeHost):
    """Take two seconds for the shutdown hook, in the first slot."""

    async def shutdown(self) -> None:
        """Sleep, if it is the one."""
        if self.context.identity.pool.rsplit("/", 1)[1].startswith("0."):
            await asyncio.sleep(SLOW_S)


class GatedPool(pool.ReplicaPool):
    """Poll only while told to, and count the polls."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.polls = 0
        self.gate = asyncio.Event()

    async def check_members(self, actors: Sequence[pool.Actor], timeout_s: float) -> list[Any]:
        """Ask, once the gate is open."""
        await self.gate.wait()
        self.polls += 1
        return await super().check_members(actors, timeout_s)


async def measure(rounds: int) -> list[Measured]:
    """Bring eight replicas up, poll them, drain them; then bring up and drain again."""
    slowest = Measured(f"  the slowest of them, whose hook takes {SLOW_S:g} s")
    drained = Measured(
        f"drain of {REPLICAS} replicas at once", beside=slowest, goal_ratio=DRAIN_RATIO
    )
    polled: list[Measured] = []
    async with GatedPool(
        "crowd",
        shape=pool.ReplicaShape(devices=2),
        host=SlowOne,
        health=pool.HealthPolicy(period_s=POLL_PERIOD_S, timeout_s=5, failures=1000),
    ) as replicas:
        for number in range(rounds):
            result = await replicas.scale(REPLICAS, timeout_s=120)
            assert result.is_complete, result
            if not number:
                polled = await _poll(replicas, rounds)
            began = time.monotonic()
            reports = await replicas.drain()
            drained.rounds_s.append(time.monotonic() - began)
            slowest.rounds_s.append(max(report.took_s for report in reports))
            assert all(report.rung == "hook" for report in reports), reports
    return [drained, slowest, *polled]


async def _poll(replicas: GatedPool, rounds: int) -> list[Measured]:
    by_hand = Measured(f"  bare Ray: gather over the same {REPLICAS} actors, CPU per call")
    ours = Measured(
        f"driver CPU per replica and poll, {REPLICAS} replicas", POLL_GOAL_S, beside=by_hand
    )
    many = REPLICAS * FOLD
    gathered = Measured(f"  bare Ray: gather over {many} handles, CPU per call")
    asked = Measured(
        f"driver CPU per handle, a poll of {many} handles", POLL_GOAL_S, beside=gathered
    )
    actors = replicas.handles()

    async def gather(actors: Sequence[pool.Actor]) -> None:
        await asyncio.gather(*(actor.handle.check_health.remote() for actor in actors))

    async def ask(actors: Sequence[pool.Actor]) -> None:
        await replicas.cluster.poll(actors, 5)

    for number in range(rounds + 1):
        idle = await _cpu_share(anyio.sleep, LAP_S)
        laps = [
            (ours, await _cpu_of_pool(replicas, idle)),
            (by_hand, await _cpu_of(gather, actors, idle)),
            (asked, await _cpu_of(ask, actors * FOLD, idle)),
            (gathered, await _cpu_of(gather, actors * FOLD, idle)),
        ]
        if number:
            for measured, cpu_s in laps:
                measured.rounds_s.append(cpu_s)
    return [ours, by_hand, asked, gathered]


async def _cpu_share(work: Callable[[float], Awaitable[object]], seconds: float) -> float:
    """Return the CPU seconds of this process, all its threads, per second of some work."""
    began, cpu = time.monotonic(), time.process_time()
    await work(seconds)
    return (time.process_time() - cpu) / (time.monotonic() - began)


async def _cpu_of_pool(replicas: GatedPool, idle: float) -> float:
    """Return the CPU seconds per replica and poll of the pool's own loop."""
    before = replicas.polls
    began, cpu = time.monotonic(), time.process_time()
    replicas.gate.set()
    await anyio.sleep(LAP_S)
    replicas.gate.clear()
    spent = time.process_time() - cpu - idle * (time.monotonic() - began)
    return spent / (REPLICAS * (replicas.polls - before))


async def _cpu_of(
    ask: Callable[[Sequence[pool.Actor]], Awaitable[None]],
    actors: Sequence[pool.Actor],
    idle: float,
) -> float:
    """Return the CPU seconds per handle and question, asked at the pool's own pace."""
    rounds = 0
    began, cpu = time.monotonic(), time.process_time()
    while (now := time.monotonic()) - began < LAP_S:
        await ask(actors)
        rounds += 1
        await anyio.sleep(max(0.0, now + POLL_PERIOD_S - time.monotonic()))
    spent = time.process_time() - cpu - idle * (time.monotonic() - began)
    return spent / (len(actors) * rounds)
