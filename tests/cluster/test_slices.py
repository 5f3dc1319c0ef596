"""Pools of TPU slices on a real Ray, with nodes that only say that they have TPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

import pool
from tests.tree import HASTY, QUICK, hosts_of, until
from tests.world import World

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

KIND = "v4-16"
Nodes = dict[str, Any]


@pytest.fixture
def nodes(world: World) -> Iterator[Nodes]:
    """Add the nodes of two slices, the last worker first, and take those away that are left."""
    cluster, found = world.cluster.cluster, {}
    for name in ("a", "b"):
        for worker in (1, 0):
            found[f"{name}.{worker}"] = cluster.add_node(
                num_cpus=8,
                num_gpus=0,
                resources={"TPU": 4, **({f"TPU-{KIND}-head": 1} if worker == 0 else {})},
                labels={
                    "ray.io/tpu-slice-name": name,
                    "ray.io/tpu-worker-id": str(worker),
                    "ray.io/tpu-pod-type": KIND,
                },
            )
    try:
        yield found
    finally:
        for node in found.values():
            cluster.remove_node(node)


def where(nodes: Nodes, member: pool.Member[pool.ReplicaInfo]) -> list[str]:
    """Return the hosts of a replica as `slice.worker`."""
    names = {node.node_id: name for name, node in nodes.items()}
    return [names.get(host.node_id, "gone") for host in hosts_of(member)]


def variables() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name.startswith(("MEGA", "TPU_"))}


def test_slices_are_taken_whole_work_as_one_and_are_replaced_whole(
    world: World, nodes: Nodes
) -> None:
    async def main() -> None:
        async with pool.SlicePool(
            "train", slice_type=KIND, clamp=True, health=HASTY, restart=QUICK
        ) as replicas:
            assert (await replicas.scale(1, timeout_s=120)).is_complete
            first = replicas[0]
            assert where(nodes, first) == ["a.0", "a.1"]
            assert (await replicas.scale(3, timeout_s=120)).is_complete
            assert replicas.desired == 2, "there are no more, and that is said"
            assert pool.EventKind.POOL_CLAMPED in {event.kind for event in replicas.events()}
            assert replicas[0].id == first.id, "growing leaves the others alone"
            assert where(nodes, replicas[1]) == ["b.0", "b.1"]

            rows = await replicas.run(
                variables, env=pool.rendezvous.tpu_multislice(), timeout_s=120
            )
            for number, row in enumerate(rows):
                for worker, env in enumerate(row):
                    assert env["TPU_SLICE_NAME"] == "ab"[number]
                    assert env["TPU_WORKER_ID"] == str(worker)
                    assert env["TPU_NUM_DEVICES"] == "4"
                    assert env["MEGASCALE_SLICE_ID"] == str(number)
                    assert env["MEGASCALE_NUM_SLICES"] == "2"

            await replicas.scale(1)
            [left] = replicas.members()
            [name, _] = where(nodes, left)
            kept, lost = ("b", "a") if name == "a.0" else ("a", "b")
            node = nodes.pop(f"{lost}.1")
            await anyio.to_thread.run_sync(world.cluster.cluster.remove_node, node)
            await until(
                replicas,
                lambda: any(
                    where(nodes, member) == [f"{kept}.0", f"{kept}.1"]
                    for member in replicas.members(serving=True)
                ),
                90,
            )

    async def with_one_left() -> None:
        async with pool.SlicePool("strict", slice_type=KIND) as replicas:
            with pytest.raises(pool.InfeasibleError, match="worker 1 of 2 is missing"):
                await replicas.scale(2)

    anyio.run(main)
    anyio.run(with_one_left)
