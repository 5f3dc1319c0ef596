"""The tree on a real Ray: grow, shrink, replace and drain, and who is touched by it."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio
import pytest

import pool
from tests.tree import pid_of
from tests.world import World

pytestmark = pytest.mark.ray

ON_ONE_NODE = pool.ReplicaShape(devices=2)
ON_TWO_NODES = pool.ReplicaShape(devices=8)
QUICK = pool.RestartPolicy(delay_s=0.05, jitter=0)


def ids(members: list[pool.Member[pool.ReplicaInfo]]) -> dict[int, set[str]]:
    """Return slot to the ids of all actors of its replica."""
    found: dict[int, set[str]] = {}
    for member in members:
        assert member.info is not None
        assert member.actor is not None
        found[member.slot] = {member.actor.id, *(host.actor.id for host in member.info.hosts)}
    return found


def hosts_of(member: pool.Member[pool.ReplicaInfo]) -> tuple[pool.HostInfo, ...]:
    assert member.info is not None
    return member.info.hosts


def open_pool(world: World, shape: pool.ReplicaShape, **options: Any) -> pool.ReplicaPool:
    return pool.ReplicaPool("tree", shape=shape, restart=QUICK, **options)


def test_growing_and_shrinking_touch_no_other_member(world: World) -> None:
    """INV-3, row E17: the same actor ids before and after."""

    async def main() -> None:
        async with open_pool(world, ON_ONE_NODE) as replicas:
            result = await replicas.scale(1, timeout_s=60)
            assert (result.reached, result.missing) == (1, {})
            first = ids(replicas.members())
            await replicas.scale(2, timeout_s=60)
            both = ids(replicas.members())
            assert both[0] == first[0]
            await replicas.scale(1, timeout_s=60)
            assert ids(replicas.members()) == first

    anyio.run(main)


def test_a_replica_of_one_host_is_one_process(world: World) -> None:
    async def main() -> None:
        async with open_pool(world, ON_ONE_NODE) as replicas:
            await replicas.scale(1, timeout_s=60)
            [member] = replicas.members()
            assert member.actor is not None
            [host] = hosts_of(member)
            assert host.actor == member.actor
            assert host.actor.handle is not None
            assert pid_of(member.actor) == host.pid
            assert await replicas.broadcast(os.getpid, flat=True) == [host.pid]

    anyio.run(main)


def test_a_gang_spans_nodes_and_every_host_sits_on_its_own(world: World) -> None:
    """Rows C1, E13: STRICT_SPREAD, and hosts pinned to the nodes of their bundles."""

    async def main() -> None:
        async with open_pool(world, ON_TWO_NODES) as replicas:
            await replicas.scale(1, timeout_s=60)
            [member] = replicas.members()
            hosts = hosts_of(member)
            assert [host.node_id for host in hosts] == list(member.nodes)
            assert len(set(member.nodes)) == 2
            assert [host.index for host in hosts] == [0, 1]
            assert [host.bundle["GPU"] for host in hosts] == [4, 4]
            world.watch(*(host.pid for host in hosts))

    anyio.run(main)


def test_a_killed_host_takes_its_gang_and_nobody_else(world: World) -> None:
    """The death of one host is known at once; its replica is reaped and its slot filled again."""

    async def main() -> None:
        async with open_pool(world, ON_TWO_NODES) as replicas:
            await replicas.scale(2, timeout_s=90)
            before = ids(replicas.members())
            world.watch(*(host.pid for member in replicas.members() for host in hosts_of(member)))
            faults = []
            replicas.follow(
                lambda event: (
                    faults.append(event) if event.kind is pool.EventKind.MEMBER_FAULT else None
                )
            )
            os.kill(hosts_of(replicas[1])[1].pid, signal.SIGKILL)
            with anyio.fail_after(10):
                while not faults:
                    await replicas.changed()
            assert faults[0].slot == 1
            assert faults[0].facts["cause"] == pool.Cause.CRASH
            await replicas.wait_settled(60)
            after = ids(replicas.members())
            assert after[0] == before[0]
            assert not after[1] & before[1]
            assert replicas[1].generation == 2

    anyio.run(main)


def test_a_killed_replica_actor_is_replaced_with_all_its_hosts(world: World) -> None:
    async def main() -> None:
        async with open_pool(world, ON_ONE_NODE) as replicas:
            await replicas.scale(1, timeout_s=60)
            [member] = replicas.members()
            world.watch(*(host.pid for host in hosts_of(member)))
            pids = await replicas.broadcast(os.getppid, flat=True)
            assert pids
            before = ids([member])
            assert member.actor is not None
            replicas.cluster.kill(member.actor)
            with anyio.fail_after(30):
                while not replicas.members() or replicas.members()[0].generation == 1:
                    await replicas.changed()
            await replicas.wait_settled(60)
            assert not ids(replicas.members())[0] & before[0]

    anyio.run(main)


def test_a_request_that_can_never_fit_is_refused_before_anything_is_created(world: World) -> None:
    async def main() -> None:
        async with open_pool(world, ON_TWO_NODES) as replicas:
            groups = world.groups()
            with pytest.raises(pool.InfeasibleError, match="4 replicas") as caught:
                await replicas.scale(4, timeout_s=10)
            assert "3" in str(caught.value)
            assert "4 GPU" in caught.value.topology
            assert world.groups() == groups
            with pytest.raises(pool.InfeasibleError):
                async with pool.ReplicaPool("odd", shape=pool.ReplicaShape(devices=7)) as odd:
                    await odd.scale(1, timeout_s=10)

    anyio.run(main)


def test_the_largest_valid_size_is_taken_and_the_surplus_given_back(world: World) -> None:
    """Row E18, on nodes half of which somebody else holds."""

    async def main() -> None:
        async with (
            pool.ReplicaPool("holder", shape=pool.ReplicaShape(devices=4)) as holder,
            open_pool(world, ON_TWO_NODES) as replicas,
        ):
            await holder.scale(2, timeout_s=60)
            result = await replicas.scale([1, 3], timeout_s=20)
            assert (result.requested, result.reached, result.desired) == (3, 1, 1)
            assert any("holder" in reason for reason in result.missing.values()), result.missing
            assert len(replicas.members()) == 1
            assert replicas.snapshot().settled

    anyio.run(main)
