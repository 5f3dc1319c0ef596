"""One slot's member is let go in good order, and no other slot is touched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run
from tests.tree import hosts_of


def play(main: Callable[[pool.ReplicaPool], Awaitable[None]], **options: Any) -> None:
    cluster = SimulatedCluster([SimNode(gpus=8)])

    async def play_it() -> None:
        shape = pool.ReplicaShape(devices=1)
        async with pool.ReplicaPool("a", shape=shape, cluster=cluster, **options) as replicas:
            await replicas.scale(3)
            await replicas.wait_settled(600)
            await main(replicas)
        assert not cluster.left()

    run(play_it)


def test_its_rank_goes_to_a_new_slot_and_the_others_stay() -> None:
    """INV-3."""

    async def main(replicas: pool.ReplicaPool) -> None:
        before = [member.id for member in replicas.members()]
        replicas.drain_slot(1, "a fan is loud")
        replicas.drain_slot(1, "a fan is loud")
        await replicas.wait_drained(1)
        await replicas.wait_settled(600)
        after = [member.id for member in replicas.members()]
        assert (after[0], after[2]) == (before[0], before[2])
        assert after[1] not in before
        [report] = replicas.reports
        assert (report.member, report.rung, report.reason) == (before[1], "hook", "a fan is loud")
        retired = [event for event in replicas.events() if event.kind == "slot_retired"]
        assert [event.facts["reason"] for event in retired] == ["a fan is loud"]

    play(main)


def test_a_spare_takes_its_rank_over_at_once() -> None:
    async def main(replicas: pool.ReplicaPool) -> None:
        [spare] = [member for member in replicas.members() if member.rank is None]
        began = anyio.current_time()
        replicas.drain_slot(replicas[0].slot)
        while (spare.slot, 0) not in [(each.slot, each.rank) for each in replicas.members()]:
            await replicas.changed()
        assert anyio.current_time() - began < 0.1
        await replicas.wait_settled(600)
        assert len(replicas.members()) == 4

    play(main, spares=1)


def test_a_pool_without_surge_has_never_more_than_it_may() -> None:
    """INV-2."""

    async def main(replicas: pool.ReplicaPool) -> None:
        seen = []
        end = replicas.on_change(lambda: seen.append(len(replicas.members())))
        replicas.drain_slot(0)
        await replicas.wait_drained(0)
        await replicas.wait_settled(600)
        end()
        assert max(seen) <= replicas.most == 3

    play(main, surge=0)


def test_a_slot_that_is_not_there_and_a_pool_that_is_closed_are_refused() -> None:
    async def main(replicas: pool.ReplicaPool) -> None:
        with pytest.raises(pool.ConfigError, match="no slot 9; there are: 0, 1, 2"):
            replicas.drain_slot(9)
        other = pool.ReplicaPool("b", shape=replicas.shape, cluster=replicas.cluster)
        with pytest.raises(pool.PoolClosed):
            other.drain_slot(0)

    play(main)


HASTY = pool.HealthPolicy(period_s=1, timeout_s=1, failures=3)


def test_a_host_that_is_too_busy_to_answer_while_it_drains_is_not_judged() -> None:
    """INV-9, one level down: the replica knows that it leaves, and so do those below it."""
    cluster = SimulatedCluster([SimNode(gpus=8)])

    async def main() -> None:
        async with pool.ReplicaPool(
            "a",
            shape=pool.ReplicaShape(devices=1),
            cluster=cluster,
            health=HASTY,
            drain=pool.DrainPolicy(timeout_s=60),
        ) as replicas:
            await replicas.scale(2)
            await anyio.sleep(60)  # Beyond the grace after a start, in which nobody is judged.
            leaves = replicas[0]
            assert leaves.info is not None
            cluster.hang(leaves.info.hosts[0].actor, "drain", "check_health")
            began = anyio.current_time()
            replicas.drain_slot(leaves.slot)
            await replicas.wait_drained(leaves.slot)
            assert anyio.current_time() - began > 20, "its drain had the time that it may take"
            [report] = replicas.reports
            assert (report.rung, report.reason) == ("hook", "it was asked to leave")

    run(main)


def test_who_was_put_back_and_leaves_again_is_not_judged_for_not_having_come_back() -> None:
    """INV-9."""
    cluster = SimulatedCluster([SimNode(gpus=8)] * 2)

    async def main() -> None:
        async with pool.ReplicaPool(
            "a",
            shape=pool.ReplicaShape(devices=8),
            cluster=cluster,
            surge=0,
            drain=pool.DrainPolicy(timeout_s=60),
        ) as replicas:
            await replicas.scale(1)
            [member] = replicas.members()
            assert member.actor is not None
            assert member.info is not None
            cluster.hang(member.info.hosts[0].actor, "drain")
            cluster.hang(member.actor, "restore")
            cluster.drain_node(member.nodes[0], 3600)
            while replicas.members()[0].state is not pool.State.DRAINING:
                await replicas.changed()
            cluster.undrain_node(member.nodes[0])
            while replicas.members()[0].state is not pool.State.READY:
                await replicas.changed()
            replicas.drain_slot(member.slot)
            await replicas.wait_drained(member.slot)
            [report] = replicas.reports
            assert (report.rung, report.reason) == ("hook", "it was asked to leave")

    run(main)


def drain_at_work(work_s: float, *, suspect: bool = False, **options: Any) -> None:
    """Drain a slot whose host has work that the pool does not count: somebody else called it."""
    cluster = SimulatedCluster([SimNode(gpus=8)])

    async def main() -> None:
        async with pool.ReplicaPool(
            "a",
            shape=pool.ReplicaShape(devices=1),
            cluster=cluster,
            drain=pool.DrainPolicy(timeout_s=300),
            **options,
        ) as replicas:
            await replicas.scale(1)
            await anyio.sleep(60)  # Beyond the grace after a start, in which nobody is judged.
            [host] = hosts_of(replicas[0])
            if suspect:
                cluster.hang(host.actor)
                while replicas.members()[0].state is not pool.State.SUSPECT:
                    await replicas.changed()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cluster.call, host.actor, "execute", anyio.sleep, (work_s,))
                await anyio.sleep(1)
                replicas.drain_slot(0)
                began = anyio.current_time()
                await replicas.wait_drained(0)
                assert anyio.current_time() - began > work_s - 5, "it was waited for"
            [report] = replicas.reports
            assert (report.rung, report.troubles) == ("hook", ())

    run(main)


def test_the_parts_of_a_member_live_on_while_it_drains_for_longer_than_their_leases() -> None:
    """INV-9: who is not asked for its health has to hear from its owner all the same."""
    drain_at_work(120, lease_s=21)


def test_a_part_that_is_suspect_drains_with_the_others() -> None:
    """It does not answer now, and works on."""
    patient = pool.HealthPolicy(period_s=1, timeout_s=1, failures=100)
    drain_at_work(30, suspect=True, health=patient)
