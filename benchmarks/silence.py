"""A node that falls silent: to suspect, in health periods, beside Ray's own detection.

Both watch the same silence. Ray's health checks have their defaults here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import pool
from benchmarks.bare import BareActor
from benchmarks.embedded import Nodes
from benchmarks.harness import Measured
from benchmarks.listener import Listener

PERIOD_S = 1.0
PERIODS = 3
GPUS = 4
WATCHFUL = pool.HealthPolicy(period_s=PERIOD_S, timeout_s=PERIOD_S, failures=1000, grace_s=0)
AT_ONCE = pool.RestartPolicy(intensity=1_000_000, delay_s=0, delay_max_s=0, jitter=0)


async def measure(rounds: int, nodes: Nodes) -> list[Measured]:
    """Silence the node of one of two members, wait for both verdicts, take the node away.

    There has to be a further node for each round.
    """
    by_ray = Measured("  bare Ray: node silent, to the exception at a pending call")
    ours = Measured(
        f"node silent, to suspect, polled every {PERIOD_S:g} s", PERIODS * PERIOD_S, beside=by_ray
    )
    async with pool.ReplicaPool(
        "watched",
        shape=pool.ReplicaShape(devices=GPUS),
        health=WATCHFUL,
        restart=AT_ONCE,
        drain=pool.DrainPolicy(timeout_s=5),
    ) as replicas:
        result = await replicas.scale(2, timeout_s=60)
        assert result.is_complete, result
        listener = Listener(replicas)
        for number in range(rounds):
            [node_id] = replicas[number % 2].nodes
            pending = await _pending_call(node_id)
            # At another moment of the period each time, as nodes do.
            await asyncio.sleep(PERIOD_S * number / rounds)
            listener.forget()
            silent = time.monotonic()
            nodes.silence(node_id)
            suspect = await listener.until(pool.EventKind.MEMBER_STATE, state="suspect")
            await pending
            by_ray.rounds_s.append(time.monotonic() - silent)
            ours.rounds_s.append(suspect - silent)
            nodes.remove(node_id)
            await replicas.wait_settled(120)
    return [ours, by_ray]


async def _pending_call(node_id: str) -> asyncio.Task[None]:
    pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
    actor = BareActor.options(num_cpus=0, max_restarts=0, scheduling_strategy=pinned).remote()
    await actor.pid.remote()
    # The handle has to outlive the call, for the actor ends with it.
    return asyncio.create_task(_death(actor, actor.never.remote()))


async def _death(actor: Any, call: Any) -> None:
    with contextlib.suppress(RayActorError):
        await call
