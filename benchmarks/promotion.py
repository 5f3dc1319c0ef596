"""From a loss to a hot spare in the lost member's place."""

from __future__ import annotations

import inspect
import os
import signal
import time
from typing import Any

import pool
from benchmarks.embedded import pid_of
from benchmarks.harness import Measured
from benchmarks.listener import Listener
from benchmarks.loss import AT_ONCE, GPUS, PATIENT

PROMOTED_S = 0.200


def unavailable() -> str:
    """Say why the scenario cannot run; empty when it can."""
    if "spares" not in inspect.signature(pool.ReplicaPool.__init__).parameters:
        return "ReplicaPool has no option `spares`"
    return ""


async def measure(rounds: int) -> list[Measured]:
    """Kill the only member that serves, and wait until another one holds its rank, ready."""
    promoted = Measured("loss to promoted, with a hot spare", PROMOTED_S)
    spared: dict[str, Any] = {"spares": 1}
    async with pool.ReplicaPool(
        "spared",
        shape=pool.ReplicaShape(devices=GPUS),
        restart=AT_ONCE,
        health=PATIENT,
        **spared,
    ) as replicas:
        result = await replicas.scale(1, timeout_s=60)
        assert result.is_complete, result
        listener = Listener(replicas)
        for number in range(rounds + 1):
            # The spare of before is the member now, and there has to be a new one first.
            await replicas.wait_settled(60)
            member = replicas[0]
            assert member.actor is not None
            pid = pid_of(member.actor.id)
            listener.forget()
            lost = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            ranked = await listener.until(pool.EventKind.SLOT_RANKED, rank=0)
            assert replicas[0].id != member.id
            if number:
                promoted.rounds_s.append(ranked - lost)
    return [promoted]
