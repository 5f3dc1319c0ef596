"""A pool's life, recorded in simulation: what the page's tests and its picture in the docs show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

import pool
from pool.page.story import event_json
from pool.testing import SimNode, SimulatedCluster, run

Json = dict[str, Any]
Life = Callable[[SimulatedCluster, pool.ReplicaPool], Awaitable[None]]


@dataclass
class Recording:
    """What was published, and when."""

    moments: list[tuple[float, Json, list[Json]]] = field(default_factory=list)


def record(
    life: Life,
    *,
    nodes: int,
    devices: int = 16,
    every_s: float = 1.0,
    modelled: bool = False,
    **options: Any,
) -> Recording:
    """Let a pool live in simulation, and write down what it publishes each so many seconds."""
    recording = Recording()

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * nodes, seed=4, modelled=modelled)
        shape = pool.ReplicaShape(devices=devices)
        replicas = pool.ReplicaPool(
            "rollout", shape=shape, cluster=cluster, instance="simulated", **options
        )
        heard: list[pool.Event] = []
        replicas.follow(heard.append)

        def publish() -> None:
            events, heard[:] = [event_json(event) for event in heard], []
            recording.moments.append(
                (cluster.unix_time(), dict(replicas.picture()["snapshot"]), events)
            )

        async def publish_forever() -> None:
            while True:
                publish()
                await anyio.sleep(every_s)

        async with replicas, anyio.create_task_group() as tasks:
            tasks.start_soon(publish_forever)
            await life(cluster, replicas)
            publish()
            tasks.cancel_scope.cancel()

    run(main, limit_s=86_400)
    return recording


async def eventful(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    """Go through a quarter of an hour in which much happens."""
    await replicas.scale(4)
    await anyio.sleep(90)
    await replicas.scale(8)
    await anyio.sleep(60)
    cluster.crash(replicas.handles()[5])
    await anyio.sleep(140)
    info = replicas[2].info
    assert info is not None
    cluster.crash(info.hosts[1].actor)
    await anyio.sleep(100)
    cluster.silence_node(replicas[1].nodes[0], for_s=600)
    await anyio.sleep(120)
    cluster.hang(replicas.handles()[6], "check_health")
    await anyio.sleep(90)
    cluster.unhang()
    cluster.drain_node(replicas[7].nodes[0], in_s=240)
    cluster.drain_node(replicas[3].nodes[1], in_s=300)
    await anyio.sleep(20)
    cluster.drain_node(replicas[4].nodes[0], in_s=300)
    await anyio.sleep(8)
    cluster.crash(replicas.handles()[0])
    await anyio.sleep(1.0)


async def crowd(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    """Bring up five hundred slots, and let twenty members crash at once."""
    await replicas.scale(500, timeout_s=3600)
    for number in range(20):
        cluster.crash(replicas.handles()[number * 23 + 3])
    await anyio.sleep(1)


async def large(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    """Go through a few minutes with five hundred slots, many of which fail."""
    await crowd(cluster, replicas)
    await anyio.sleep(60)
    for number in range(0, 60, 7):
        cluster.lose_node(replicas[number * 8].nodes[0])
        await anyio.sleep(11)
    for number in range(6):
        cluster.drain_node(replicas[number * 70 + 11].nodes[0], in_s=300)
    await anyio.sleep(1.2)
