"""Four replicas by `pool` and by Ray Serve: up, one more, one killed, all gone.

Serve runs with its defaults, but for the HTTP proxy, which is left out. A replica of one host is
one process, as Serve's is.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import anyio

import pool
from benchmarks.embedded import RELAXED, embedded_cluster
from benchmarks.harness import Measured
from benchmarks.listener import Listener
from benchmarks.loss import AT_ONCE
from pool.cluster.ray import private

SIZE = 4
PATIENCE_S = 180
LAPS = {
    "up": f"{SIZE} replicas ready",
    "more": f"{SIZE} to {SIZE + 1}",
    "detected": "kill -9 of one to detected",
    "replaced": "detected to ready again",
    "down": "all gone",
}
DETECT_GOAL = 1 / 100


def measure(rounds: int) -> list[Measured]:
    """Return the rows of the table."""
    theirs = {lap: Measured(f"  Ray Serve: {text}") for lap, text in LAPS.items()}
    ours = {lap: Measured(f"pool: {text}", beside=theirs[lap]) for lap, text in LAPS.items()}
    ours["detected"].goal_ratio = DETECT_GOAL
    with embedded_cluster(nodes=2, gpus=SIZE, **RELAXED):
        for number in range(rounds + 1):
            for rows, took in ((ours, anyio.run(_ours)), (theirs, _theirs())):
                for lap, seconds in took.items() if number else ():
                    rows[lap].rounds_s.append(seconds)
    return [row for lap in LAPS for row in (ours[lap], theirs[lap])]


async def _ours() -> dict[str, float]:
    took = {}
    async with pool.ReplicaPool(
        "ours", shape=pool.ReplicaShape(devices=1), restart=AT_ONCE
    ) as replicas:
        for lap, size in (("up", SIZE), ("more", SIZE + 1)):
            began = time.monotonic()
            result = await replicas.scale(size, timeout_s=PATIENCE_S)
            assert result.is_complete, result
            took[lap] = time.monotonic() - began
        listener = Listener(replicas)
        [[host], *_] = replicas.hosts()
        killed = time.monotonic()
        os.kill(host.info.pid, signal.SIGKILL)
        detected = await listener.until(pool.EventKind.MEMBER_FAULT)
        ready = await listener.until(pool.EventKind.MEMBER_STATE, state="ready")
        took |= {"detected": detected - killed, "replaced": ready - detected}
        await replicas.wait_settled(PATIENCE_S)
        began = time.monotonic()
    return took | {"down": time.monotonic() - began}


def _theirs() -> dict[str, float]:
    from ray import serve
    from ray.serve._private.common import ReplicaState

    class Replica:
        """Do nothing."""

        def __call__(self) -> int:
            return os.getpid()

    def replicas(size: int) -> Any:
        make: Any = serve.deployment
        return (
            make(Replica)
            .options(num_replicas=size, ray_actor_options={"num_gpus": 1, "num_cpus": 0})
            .bind()
        )

    def running() -> int:
        [deployment] = serve.status().applications["bench"].deployments.values()
        return int(deployment.replica_states.get(ReplicaState.RUNNING, 0))

    def is_running(size: int) -> bool:
        return running() == size

    took = {}
    # Its controller stays over all that follows, as ours lives in this process.
    serve.start(http_options={"location": "NoServer"})
    for lap, size in (("up", SIZE), ("more", SIZE + 1)):
        began = time.monotonic()
        serve.run(replicas(size), name="bench", route_prefix=None)
        _until(functools.partial(is_running, size))
        took[lap] = time.monotonic() - began
    [victim, *_] = (
        int(actor["Pid"])
        for actor in private.actor_table().values()
        if actor["State"] == "ALIVE" and actor["Name"].startswith("SERVE_REPLICA::")
    )
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    _until(lambda: running() < SIZE + 1)
    detected = time.monotonic()
    _until(functools.partial(is_running, SIZE + 1))
    took |= {"detected": detected - killed, "replaced": time.monotonic() - detected}
    began = time.monotonic()
    serve.delete("bench")
    took["down"] = time.monotonic() - began
    serve.shutdown()
    return took


def _until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends_at, f"not within {PATIENCE_S} s"
        time.sleep(0.01)
