"""A node that goes away without notice: its member is replaced elsewhere, nothing of it stays."""

from __future__ import annotations

import time
from typing import Any

import anyio
import anyio.to_thread
import pytest

import pool
from pool import EventKind
from tests.tree import BRIEF, HASTY, QUICK, Story, every_gpu_taken, hosts_of, until
from tests.world import World

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WHOLE_NODE = pool.ReplicaShape(devices=4)


@pytest.mark.parametrize("graceful", [True, False], ids=["raylet ends", "raylet is killed"])
def test_a_lost_node_is_replaced_elsewhere(world: World, graceful: bool) -> None:
    """Fault matrix: the raylet. The node is added for this alone, and is the only one with room."""
    cluster = world.cluster.cluster
    nodes: list[Any] = []

    async def main() -> None:
        async with pool.ReplicaPool(
            "homeless", shape=WHOLE_NODE, health=HASTY, restart=QUICK, drain=BRIEF
        ) as replicas:
            with every_gpu_taken():
                nodes.append(cluster.add_node(num_cpus=8, num_gpus=4))
                await replicas.scale(1, timeout_s=60)
            before = replicas[0]
            assert before.nodes == (nodes[0].node_id,)
            world.watch(*(host.pid for host in hosts_of(before)))
            story = Story(replicas)
            lost_at = time.monotonic()
            await anyio.to_thread.run_sync(cluster.remove_node, nodes.pop(), graceful)
            known_at = await story.until(EventKind.MEMBER_FAULT)
            [fault] = story.of(EventKind.MEMBER_FAULT)
            print(f"{fault.facts} known after {known_at - lost_at:.2f} s")
            await until(replicas, lambda: bool(replicas.members(serving=True)), 60)
            await replicas.wait_settled(60)
            assert set(replicas[0].nodes).isdisjoint(before.nodes)
            # Our own polls hear the silence of a killed raylet's node before Ray says so.
            silent = () if graceful else (pool.Cause.UNHEALTHY,)
            assert fault.facts["cause"] in (pool.Cause.NODE_LOST, pool.Cause.CRASH, *silent)

    try:
        anyio.run(main)
    finally:
        for node in nodes:
            cluster.remove_node(node)
