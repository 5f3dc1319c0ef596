"""Where replicas go on a real Ray: whole nodes stay free, ranks follow nodes, slots stay."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

import pool
from pool.cluster.ray.private import available_resources_per_node
from tests.tree import QUICK, kill, pid_of, until_again
from tests.world import ClusterOfNodes, World

pytestmark = pytest.mark.ray

EIGHTS = {"kind": "eight"}
ON_EIGHTS = pool.NodeSelector(labels=EIGHTS)


@pytest.fixture(scope="module")
def eights(cluster_of_nodes: ClusterOfNodes) -> Iterator[list[str]]:
    """Add three nodes of eight GPUs, for this module."""
    cluster = cluster_of_nodes.cluster
    nodes = [cluster.add_node(num_cpus=20, num_gpus=8, labels=EIGHTS) for _ in range(3)]
    cluster.wait_for_nodes(timeout=120)
    yield [node.node_id for node in nodes]
    for node in nodes:
        cluster.remove_node(node)


def held_gpus() -> float:
    """Return how many GPUs are in use, as far as Ray knows."""
    return float(ray.cluster_resources()["GPU"] - ray.available_resources().get("GPU", 0))


class Rank:
    """Say which node it is on."""

    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())


def where_ray_puts(groups: int, devices: int) -> list[str]:
    """Return the nodes of groups that Ray places as they come."""
    made = [
        placement_group([{"GPU": devices}], bundle_label_selector=[EIGHTS]) for _ in range(groups)
    ]
    try:
        ray.get([group.ready() for group in made], timeout=60)
        return [placement_group_table(group)["bundles_to_node_id"][0] for group in made]
    finally:
        for group in made:
            remove_placement_group(group)
        until_free()


def until_free() -> None:
    """Wait until the nodes tell that what was removed is free."""
    ends_at = time.monotonic() + 60
    while sum(node.get("GPU", 0) for node in available_resources_per_node().values()) < sum(
        node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]
    ):
        assert time.monotonic() < ends_at, "groups that were removed still hold their nodes"
        time.sleep(0.05)


def test_six_replicas_of_two_devices_leave_a_node_of_eight_whole(
    world: World, eights: list[str]
) -> None:
    """Row A6. Ray by itself leaves none: it places groups as they come, and spreads them."""
    theirs = Counter(where_ray_puts(6, 2))
    # What nodes say of themselves comes late, and until then they look as if they were in use.
    world.eventually(lambda: held_gpus() == 0, held_gpus)

    async def main() -> None:
        shape = pool.ReplicaShape(devices=2, selector=ON_EIGHTS)
        async with pool.ReplicaPool("small", shape=shape, restart=QUICK) as small:
            await small.scale(6, timeout_s=180)
            ours = Counter(node for member in small.members() for node in member.nodes)
            print(f"replicas a node: Ray {sorted(theirs.values())}, ours {sorted(ours.values())}")
            assert sorted(ours.values()) == [2, 4]
            # So a role that needs a whole node still finds one.
            large = pool.ReplicaShape(devices=8, selector=ON_EIGHTS)
            async with pool.ReplicaPool("large", shape=large, restart=QUICK) as whole:
                result = await whole.scale(1, timeout_s=120)
                assert result.is_complete, result

    anyio.run(main)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_seventeen_ranks_on_three_nodes_of_eight_follow_their_nodes(
    world: World, eights: list[str]
) -> None:
    """Row A5. By Ray's own order of bundles, 17 on 3 × 8 come out interleaved."""

    async def main() -> None:
        async with pool.ReplicaPool(
            "train",
            shape=pool.ReplicaShape(devices=17, selector=ON_EIGHTS),
            placement=pool.Shared(),
            ranks=pool.Ranks(Rank),
            restart=QUICK,
            start_timeout_s=300,
        ) as train:
            result = await train.scale(1, timeout_s=300)
            assert result.is_complete, result
            nodes: list[str] = await train.broadcast("node", on="rank", flat=True)
            runs = [node for index, node in enumerate(nodes) if node != nodes[index - 1]]
            assert Counter(nodes).most_common() == [(runs[0], 8), (runs[1], 8), (runs[2], 1)]

    anyio.run(main)


def test_a_slots_next_replica_goes_where_its_last_one_was(world: World, eights: list[str]) -> None:
    """Caches and checkpoints on local disks are found again."""

    async def main() -> None:
        shape = pool.ReplicaShape(devices=4, selector=ON_EIGHTS)
        async with pool.ReplicaPool("keeps", shape=shape, restart=QUICK) as keeps:
            await keeps.scale(3, timeout_s=180)
            before: list[Any] = [(member.slot, member.nodes) for member in keeps.members()]
            lost = keeps[1]
            kill(pid_of(lost.actor))
            await until_again(keeps, 1, lost.generation + 1)
            assert [(member.slot, member.nodes) for member in keeps.members()] == before

    anyio.run(main)
