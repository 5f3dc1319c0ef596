"""A pool of TPU slices in simulation: whole slices or none, and each replaced whole."""

from __future__ import annotations

import pickle

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run
from pool.testing.invariants import validate
from tests.tree import hosts_of


def slices(*names: str, hosts: int = 2, kind: str = "v4-16", without: str = "") -> list[SimNode]:
    """Describe the nodes of some slices; the one that is named `slice.worker` is missing.

    They come with the last worker first, as nodes join in any order.
    """
    return [
        SimNode(
            extra={"TPU": 4, **({f"TPU-{kind}-head": 1} if worker == 0 else {})},
            labels={
                "ray.io/tpu-slice-name": name,
                "ray.io/tpu-worker-id": str(worker),
                "ray.io/tpu-pod-type": kind,
            },
        )
        for name in names
        for worker in reversed(range(hosts))
        if f"{name}.{worker}" != without
    ]


async def where(cluster: SimulatedCluster, member: pool.Member[pool.ReplicaInfo]) -> list[str]:
    """Return the hosts of a replica as `slice.worker`."""
    labels = {node.node_id: node.labels for node in (await cluster.topology()).nodes}
    found = [labels[host.node_id] for host in hosts_of(member)]
    return [f"{each['ray.io/tpu-slice-name']}.{each['ray.io/tpu-worker-id']}" for each in found]


def test_each_replica_has_one_slice_in_the_order_of_its_workers_and_growing_moves_none() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([*slices("a", "b", "c", without="b.1"), SimNode(gpus=8)])
        async with pool.SlicePool("train", slice_type="v4-16", cluster=cluster) as replicas:
            assert (await replicas.scale(1, timeout_s=60)).is_complete
            first = replicas[0]
            assert await where(cluster, first) == ["a.0", "a.1"]
            assert (await replicas.scale(2, timeout_s=60)).is_complete
            assert replicas[0].id == first.id
            assert await where(cluster, replicas[1]) == ["c.0", "c.1"]
            validate(replicas, cluster)
        assert not cluster.left()

    run(main)


def test_more_than_there_are_is_refused_with_what_is_missing_or_clamped_with_an_event() -> None:
    async def main() -> None:
        cluster = SimulatedCluster(slices("a", "b", without="b.0"))
        async with pool.SlicePool("strict", slice_type="v4-16", cluster=cluster) as replicas:
            with pytest.raises(pool.InfeasibleError, match=r"slice b: worker 0 of 2 is missing"):
                await replicas.scale(2)
        async with pool.SlicePool(
            "clamped", slice_type="v4-16", clamp=True, cluster=cluster
        ) as replicas:
            result = await replicas.scale(2, timeout_s=60)
            assert result.is_complete
            assert replicas.desired == 1
            [event] = [e for e in replicas.events() if e.kind is pool.EventKind.POOL_CLAMPED]
            assert (event.facts["asked"], event.facts["desired"]) == (2, 1)
            assert "slice b: worker 0 of 2 is missing" in event.facts["reason"]
            await replicas.scale(0)
        async with pool.SlicePool(
            "none", slice_type="v4-8", clamp=True, cluster=cluster
        ) as replicas:
            with pytest.raises(pool.InfeasibleError, match="no node with the label"):
                await replicas.scale(1)

    run(main)


def test_a_notice_for_one_host_replaces_the_slice_whole_by_another() -> None:
    async def main() -> None:
        cluster = SimulatedCluster(slices("a", "b"))
        async with pool.SlicePool("train", slice_type="v4-16", cluster=cluster) as replicas:
            await replicas.scale(1, timeout_s=60)
            node = hosts_of(replicas[0])[1].node_id
            cluster.drain_node(node, 600)
            while await where(cluster, replicas[0]) != ["b.0", "b.1"]:
                await replicas.changed()
            await replicas.wait_settled(timeout_s=600)
            noticed = [e for e in replicas.events() if e.kind is pool.EventKind.MEMBER_NOTICE]
            assert {(each.slot, each.generation) for each in noticed} == {(0, 1)}

    run(main)


def test_a_slice_that_lost_a_host_is_not_used_until_it_is_back() -> None:
    async def main() -> None:
        cluster = SimulatedCluster(slices("a"))
        async with pool.SlicePool("train", slice_type="v4-16", cluster=cluster) as replicas:
            await replicas.scale(1, timeout_s=60)
            cluster.lose_node(hosts_of(replicas[0])[1].node_id)
            await anyio.sleep(60)
            [slot] = replicas.snapshot().slots
            assert "slice a: worker 1 of 2 is missing" in slot.reason
            cluster.add_node(slices("a")[0])
            await replicas.wait_settled(timeout_s=120)
            assert await where(cluster, replicas[0]) == ["a.0", "a.1"]
            assert replicas[0].generation > 1

    run(main)


@pytest.mark.parametrize("grows", [False, True])
def test_a_slice_in_use_is_waited_for_and_never_taken_in_parts(grows: bool) -> None:
    """Half of each of two slices is free, which would make up one."""

    async def main() -> None:
        cluster = SimulatedCluster(slices("a", "b"))
        names = {
            f"{n.labels['ray.io/tpu-slice-name']}.{n.labels['ray.io/tpu-worker-id']}": n.node_id
            for n in (await cluster.topology()).nodes
        }
        halves = frozenset({names["a.0"], names["b.1"]})
        shape = pool.ReplicaShape(
            devices=4, device="TPU", selector=pool.NodeSelector(node_ids=halves)
        )
        async with pool.ReplicaPool("halves", shape=shape, cluster=cluster) as halved:
            assert (await halved.scale(2, timeout_s=60)).is_complete
            async with pool.SlicePool(
                "train", slice_type="v4-16", cluster_grows=grows, cluster=cluster
            ) as replicas:
                why = "not one slice" if grows else "slice a is in use by pool halves"
                with pytest.raises(pool.SizeUnreachable, match=why):
                    await replicas.scale(1, timeout_s=60)
                await halved.scale(0)
                await replicas.scale(1, timeout_s=60)
                await replicas.wait_settled(timeout_s=60)
                assert await where(cluster, replicas[0]) == ["a.0", "a.1"]

    run(main)


def test_a_cluster_that_grows_is_shown_what_is_wanted() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode()])
        async with pool.SlicePool(
            "train", slice_type="v4-16", cluster_grows=True, cluster=cluster
        ) as replicas:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(replicas.scale, 1)
                await anyio.sleep(30)
                for node in slices("a"):
                    cluster.add_node(node)
                await anyio.sleep(30)
            await replicas.wait_settled(timeout_s=120)
            assert await where(cluster, replicas[0]) == ["a.0", "a.1"]

    run(main)


def test_a_pool_that_is_made_again_is_the_same() -> None:
    async def main() -> None:
        cluster = SimulatedCluster(slices("a"))
        replicas = pool.SlicePool(
            "train",
            slice_type="v4-16",
            cpus_per_chip=2,
            memory_bytes_per_chip=5,
            selector=pool.NodeSelector(exclude_head=True),
            clamp=True,
            spares=1,
            cluster=cluster,
        )
        recipe = pickle.loads(pickle.dumps(replicas.recipe()))
        again = recipe(cluster)
        assert isinstance(again, pool.SlicePool)
        assert again.shape == replicas.shape
        assert again.policies == replicas.policies
        options = [each.recipe().keywords for each in (again, replicas)]  # type: ignore[attr-defined]
        for each in options:
            each.pop("notices")
        assert options[0] == options[1]

    run(main)
