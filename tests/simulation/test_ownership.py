"""Detached pools in simulation: owners come, go, die and fight, and the pool is as it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

import pool
from pool.control.attach import attach
from pool.control.listing import list_pools
from pool.control.reap import reap
from pool.ownership.keeper import LEVEL
from pool.testing import FaultPlan, SimNode, SimulatedCluster, run

Main = Callable[[SimulatedCluster], Awaitable[None]]
LEASE_S = 30.0


def simulated(main: Main) -> Callable[[], None]:
    def runs() -> None:
        run(lambda: main(SimulatedCluster([SimNode(gpus=8)] * 6)), limit_s=86_400)

    runs.__name__ = main.__name__
    return runs


def make(cluster: SimulatedCluster, name: str = "d", **options: Any) -> pool.ReplicaPool:
    given: dict[str, Any] = {
        "shape": pool.ReplicaShape(devices=16),
        "detached": True,
        "lease_s": LEASE_S,
    }
    return pool.ReplicaPool(name, cluster=cluster, **(given | options))


async def leave(cluster: SimulatedCluster, **options: Any) -> list[str]:
    """Open a pool of two, and leave it; returns the ids of its actors."""
    async with make(cluster, **options) as replicas:
        await replicas.scale(2)
        await replicas.detach()
    return alive(cluster)


def alive(cluster: SimulatedCluster) -> list[str]:
    return [actor.id for actor in cluster.actors() if actor.identity.level != "driver"]


def until_gone_s(grace_s: float = 30.0) -> float:
    return LEASE_S + grace_s + 60


@simulated
async def test_a_pool_that_was_left_is_gone_on_with_and_nothing_is_restarted(
    cluster: SimulatedCluster,
) -> None:
    """Rows R5, C11."""
    before = await leave(cluster)
    await anyio.sleep(3600)
    assert alive(cluster) == before, "a keeper keeps the leases of a pool that nobody owns"
    async with attach("d", cluster=cluster) as replicas:
        assert replicas.desired == 2
        await replicas.wait_settled(10)
        assert [member.id for member in replicas.members()] == ["d/0.1", "d/1.1"]
        assert [member.rank for member in replicas.members()] == [0, 1]
        assert alive(cluster) == before
        await replicas.scale(3)
        assert [member.serial for member in replicas.members()] == [1, 2, 3]
    assert not cluster.left()


@simulated
async def test_who_attaches_may_leave_the_pool_again(cluster: SimulatedCluster) -> None:
    before = await leave(cluster)
    for _ in range(3):
        async with attach("d", cluster=cluster) as replicas:
            await replicas.wait_settled(10)
            await replicas.detach()
            with pytest.raises(pool.PoolClosed, match="was detached"):
                await replicas.scale(1)
    assert alive(cluster) == before


@simulated
async def test_a_pool_whose_owner_is_killed_lives_on_and_is_gone_on_with_at_once(
    cluster: SimulatedCluster,
) -> None:
    owner = cluster.drive(hold)
    await anyio.sleep(30)
    before = alive(cluster)
    cluster.crash(owner)
    await anyio.sleep(0.1)
    async with attach("d", cluster=cluster) as replicas:
        await replicas.wait_settled(10)
        assert [member.id for member in replicas.members()] == ["d/0.1", "d/1.1"]
        assert alive(cluster) == before
    assert not cluster.left()


async def hold(cluster: SimulatedCluster) -> None:
    async with make(cluster) as replicas:
        await replicas.scale(2)
        await anyio.sleep_forever()


@simulated
async def test_a_second_owner_is_refused_while_the_first_lives(cluster: SimulatedCluster) -> None:
    """INV-10."""
    async with make(cluster) as replicas:
        await replicas.scale(1)
        with pytest.raises(pool.PoolHeld, match="takeover=True"):
            async with attach("d", cluster=cluster):
                pass
        with pytest.raises(pool.PoolHeld):
            await reap("d", cluster=cluster)
        with pytest.raises(pool.PoolExists, match="attach"):
            async with make(cluster):
                pass
        assert replicas.is_settled
    assert not cluster.left()


@simulated
async def test_a_second_owner_may_take_over_and_the_first_is_told(
    cluster: SimulatedCluster,
) -> None:
    async with make(cluster) as first:
        await first.scale(2)
        before = alive(cluster)
        async with attach("d", takeover=True, cluster=cluster) as second:
            await anyio.sleep(0.1)
            with pytest.raises(pool.Fenced):
                await first.scale(5)
            await second.wait_settled(10)
            assert alive(cluster) == before
            kinds = [event.kind for event in first.events()]
            assert kinds[-1] is pool.EventKind.POOL_FENCED
            await second.detach()
    # The first block ended, and touched nothing.
    assert alive(cluster) == before
    async with attach("d", cluster=cluster):
        pass
    assert not cluster.left()


@simulated
async def test_an_owner_that_waits_for_its_pool_is_woken_when_it_is_fenced(
    cluster: SimulatedCluster,
) -> None:
    async with make(cluster) as first:
        await first.scale(1)
        cluster.faults = FaultPlan(start_hangs=1.0)
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(pool.Fenced):
                    await first.scale(2, timeout_s=None)

            tasks.start_soon(wait)
            await anyio.sleep(1)
            async with attach("d", takeover=True, cluster=cluster):
                pass
    assert not cluster.left()


@simulated
async def test_what_cannot_be_gone_on_with_is_taken_away(cluster: SimulatedCluster) -> None:
    """A group whose member died while nobody owned the pool; its slot is filled again."""
    await leave(cluster)
    [victim] = [a for a in cluster.actors("replica") if a.identity.slot == 1]
    cluster.crash(victim)
    await anyio.sleep(60)
    assert len(cluster.world.room.groups) == 2
    async with attach("d", cluster=cluster) as replicas:
        await replicas.wait_settled(60)
        assert [member.id for member in replicas.members()] == ["d/0.1", "d/1.2"]
        assert len(cluster.world.room.groups) == 2
    assert not cluster.left()


@simulated
async def test_a_host_that_died_while_nobody_owned_the_pool_is_found_out(
    cluster: SimulatedCluster,
) -> None:
    await leave(cluster)
    cluster.crash(next(a for a in cluster.actors("host") if a.identity.pool == "d/0.1"))
    await anyio.sleep(60)
    async with attach("d", cluster=cluster) as replicas:
        await anyio.sleep(1)
        await replicas.wait_settled(60)
        assert [member.id for member in replicas.members()] == ["d/0.2", "d/1.1"]
    assert not cluster.left()


@simulated
async def test_a_pool_is_kept_no_longer_than_was_said(cluster: SimulatedCluster) -> None:
    await leave(cluster, keep_s=600.0)
    await anyio.sleep(590)
    assert len(cluster.actors("replica")) == 2
    await anyio.sleep(until_gone_s())
    assert not cluster.left()


@simulated
async def test_without_an_owner_and_a_keeper_the_leases_run_out(
    cluster: SimulatedCluster,
) -> None:
    """INV-4. Each member removes its own group."""
    await leave(cluster)
    cluster.crash(cluster.actors(LEVEL)[0])
    await anyio.sleep(until_gone_s())
    assert not cluster.left()


@simulated
async def test_an_owner_makes_a_new_keeper_for_one_that_died(cluster: SimulatedCluster) -> None:
    async with make(cluster) as replicas:
        await replicas.scale(2)
        cluster.crash(cluster.actors(LEVEL)[0])
        await anyio.sleep(20)
        assert len(cluster.actors(LEVEL)) == 1
        await replicas.detach()
    async with attach("d", cluster=cluster) as replicas:
        await replicas.wait_settled(10)
        assert [member.id for member in replicas.members()] == ["d/0.1", "d/1.1"]
    assert not cluster.left()


@simulated
async def test_a_roll_goes_on_under_the_next_owner(cluster: SimulatedCluster) -> None:
    """Row R4: it survives the death of the driver half way."""

    async def roll(seen: SimulatedCluster) -> None:
        async with make(seen) as replicas:
            await replicas.scale(2)
            await replicas.roll()

    owner = cluster.drive(roll)
    while not any(a.identity.revision == 1 for a in cluster.actors("replica")):  # noqa: ASYNC110
        await anyio.sleep(0.1)
    cluster.crash(owner)
    await anyio.sleep(1)
    async with attach("d", cluster=cluster) as replicas:
        await replicas.wait_settled(120)
        assert [member.revision for member in replicas.members()] == [1, 1]
        await replicas.roll_back()
        assert [member.revision for member in replicas.members()] == [0, 0]
    assert not cluster.left()


@simulated
async def test_pools_are_listed_whoever_owns_them(cluster: SimulatedCluster) -> None:
    await leave(cluster)
    async with make(cluster, name="d_b", detached=False) as other:
        await other.scale(1)
        listed = {each.name: each for each in await list_pools(cluster)}
        assert listed["d"].detached
        assert listed["d"].owner is None
        assert listed["d"].members == ("d/0.1", "d/1.1")
        assert listed["d"].desired == 2
        assert not listed["d_b"].detached
        assert listed["d_b"].groups == 1
        report = await reap("d", cluster=cluster)
        assert len(report.reaped) > 4
        await anyio.sleep(1)
        assert other.is_settled, "a pool never touches what is another's, whatever its name"
        assert {each.name for each in await list_pools(cluster)} == {"d_b"}
    assert not cluster.left()


@simulated
async def test_only_what_nobody_holds_is_reaped(cluster: SimulatedCluster) -> None:
    """INV-10. A group whose member died and whose keeper is gone is nobody's."""
    await leave(cluster)
    report = await reap(cluster=cluster)
    assert not report.reaped
    for actor in [*cluster.actors(LEVEL), *cluster.actors("replica")]:
        cluster.crash(actor)
    report = await reap(cluster=cluster, dry_run=True)
    assert not report.reaped, "it is too young"
    await anyio.sleep(90)
    report = await reap(cluster=cluster, dry_run=True)
    assert len(report.reaped) == 2
    assert len(cluster.world.room.groups) == 2
    await reap(cluster=cluster)
    assert not cluster.left()


@simulated
async def test_a_pool_that_is_not_there_is_named_with_those_that_are(
    cluster: SimulatedCluster,
) -> None:
    await leave(cluster)
    with pytest.raises(pool.PoolUnknown, match="'d'"):
        async with attach("e", cluster=cluster):
            pass
    await reap("d", cluster=cluster)


@simulated
async def test_a_pool_that_is_not_detached_cannot_be_left(cluster: SimulatedCluster) -> None:
    async with make(cluster, detached=False) as replicas:
        with pytest.raises(pool.ConfigError, match="detached=True"):
            await replicas.detach()


def test_faults_while_owners_change_leave_the_pool_whole() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        owner = cluster.drive(hold)
        for _ in range(10):
            await anyio.sleep(60)
            cluster.crash(owner)
            owner = cluster.drive(go_on)
        cluster.faults = FaultPlan()
        await anyio.sleep(1)
        cluster.crash(owner)
        await anyio.sleep(1)
        async with attach("d", cluster=cluster) as replicas:
            await replicas.scale(2)
            await replicas.wait_settled(600)
        assert not cluster.left()

    async def go_on(seen: SimulatedCluster) -> None:
        async with attach("d", cluster=seen):
            await anyio.sleep_forever()

    faults = FaultPlan(actor_kills_per_h=20)
    nodes = [SimNode(is_head=True), *[SimNode(gpus=8)] * 6]
    for seed in range(5):
        run(partial(begin, main, nodes, seed, faults), limit_s=86_400)


async def begin(main: Main, nodes: list[SimNode], seed: int, faults: FaultPlan) -> None:
    cluster = SimulatedCluster(nodes, seed=seed, faults=faults)
    # A keeper that dies together with the owner takes the pool with it, as it should.
    cluster.spare_node(cluster.nodes[0])
    await main(cluster)
