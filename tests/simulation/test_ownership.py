"""Detached pools in simulation: owners come, go, die and fight, and the pool is as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import pool
from pool.cluster.interface import Lease
from pool.control.attach import attach
from pool.control.listing import list_pools
from pool.control.reap import reap
from pool.ownership.keeper import LEVEL, Keeper
from pool.ownership.owner import Owner, Terms
from pool.ownership.record import Record
from pool.testing import FaultPlan, SimNode, SimulatedCluster, run
from tests.tree import hosts_of

Main = Callable[[SimulatedCluster], Awaitable[None]]
LEASE_S = 30.0
LEASE = Lease(lasts_s=LEASE_S, grace_s=5)


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
        planned = await reap("d", dry_run=True, cluster=cluster)
        report = await reap("d", cluster=cluster)
        assert report == planned
        whats = {what.partition(", ")[0] for what in report.reaped}
        assert whats >= {"placement group d/0.1", "placement group d/1.1", "keeper of d"}
        assert "actor d/1.1/0.1" in whats
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
    assert [what.split()[0] for what in report.reaped] == ["placement", "placement", "window"]
    assert len(cluster.world.room.groups) == 2
    await reap(cluster=cluster)
    assert not cluster.left()
    assert not await cluster.published("")


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


@simulated
async def test_who_attaches_learns_which_hosts_were_started_again_before(
    cluster: SimulatedCluster,
) -> None:
    """A replica tells its next owner who its hosts are now, and not who they were at its start."""
    async with make(cluster, host_restart=pool.RestartPolicy(intensity=3, delay_s=1)) as replicas:
        await replicas.scale(1)
        before = hosts_of(replicas[0])
        cluster.crash(before[1].actor)
        await anyio.sleep(1)
        await replicas.wait_settled(60)
        mended = hosts_of(replicas[0])
        assert mended[1].actor.id != before[1].actor.id
        await replicas.detach()
    async with attach("d", cluster=cluster) as replicas:
        await replicas.wait_settled(10)
        assert replicas[0].id == "d/0.1"
        assert hosts_of(replicas[0]) == mended
        assert await replicas.broadcast(str, 7, flat=True) == ["7", "7"]
    assert not cluster.left()


@simulated
async def test_who_attaches_to_a_replica_that_mends_itself_gives_it_no_work(
    cluster: SimulatedCluster,
) -> None:
    async with make(cluster, host_restart=pool.RestartPolicy(intensity=3, delay_s=50)) as replicas:
        await replicas.scale(1)
        await replicas.detach()
        host = hosts_of(replicas.members()[0])[1].actor
    cluster.crash(host)
    await anyio.sleep(5)
    async with attach("d", cluster=cluster) as replicas:
        await anyio.sleep(1)
        assert [member.state for member in replicas.members()] == [pool.State.SUSPECT]
        await replicas.wait_settled(120)
        assert [member.id for member in replicas.members(serving=True)] == ["d/0.1"]
    assert not cluster.left()


@simulated
async def test_a_new_keeper_fences_nobody_before_it_knows_its_owner(
    cluster: SimulatedCluster,
) -> None:
    """Between its start and its owner's first word a keeper has no epoch."""
    keeper = Keeper("d", LEASE, None)
    asked = asyncio.ensure_future(keeper.wait_superseded(3))
    await asyncio.sleep(1)
    assert not asked.done()
    record = Record(
        instance="i",
        recipe=b"",
        memory=b"",
        desired=0,
        revision=0,
        previous=0,
        newest=0,
        roll=None,
        serial=0,
        generations={},
        slots={},
    )
    await keeper.keep("me", 3, record, ())
    assert (await keeper.look()).epoch == 3
    with pytest.raises(pool.Fenced):
        await keeper.keep("somebody else", 3, record, ())
    with pytest.raises(pool.Fenced):
        await keeper.keep("somebody else", 2, record, ())
    await asyncio.sleep(1)
    assert not asked.done()
    await keeper.claim("the next", 3)
    assert await asked == 4


@simulated
async def test_keepers_that_die_again_and_again_cost_an_owner_nothing(
    cluster: SimulatedCluster,
) -> None:
    async with make(cluster) as replicas:
        await replicas.scale(2)
        for _ in range(20):
            cluster.crash(cluster.actors(LEVEL)[0])
            await anyio.sleep(5)
        assert replicas.is_settled
        assert [member.id for member in replicas.members()] == ["d/0.1", "d/1.1"]
        kinds = [event.kind for event in replicas.events()]
        assert pool.EventKind.POOL_FENCED not in kinds
    assert not cluster.left()


@simulated
async def test_a_keeper_whose_maker_died_before_it_had_a_pool_ends_itself(
    cluster: SimulatedCluster,
) -> None:
    """INV-4: its name is free again after a lease."""

    async def begin_and_no_more(seen: SimulatedCluster) -> None:
        await Owner.found(seen, Terms("d", LEASE, None))
        await anyio.sleep_forever()

    owner = cluster.drive(begin_and_no_more)
    await anyio.sleep(5)
    cluster.crash(owner)
    assert len(cluster.actors(LEVEL)) == 1
    await anyio.sleep(2 * LEASE_S)
    assert not cluster.left()


@simulated
async def test_of_two_scales_at_once_the_later_one_decides(cluster: SimulatedCluster) -> None:
    """Each is announced first; whichever announcement comes back last."""
    for turn in range(10):
        async with make(cluster, name=f"d{turn}") as replicas:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(replicas.scale, 1)
                await anyio.lowlevel.checkpoint()
                tasks.start_soon(replicas.scale, 2)
            assert replicas.desired == 2
    assert not cluster.left()


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


def test_what_was_announced_is_not_taken_back_by_a_record_made_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row R4: whoever is killed in the middle leaves a roll that goes on."""
    left: list[int] = []
    leave = Owner.leave

    async def slowly(self: Owner, record: Record, actors: tuple[pool.Actor, ...]) -> None:
        left.append(record.revision)
        await anyio.sleep(2)
        await leave(self, record, actors)

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 6)
        async with make(cluster) as replicas, anyio.create_task_group() as tasks:
            await replicas.scale(1)
            await anyio.sleep(60)
            monkeypatch.setattr(Owner, "leave", slowly)
            tasks.start_soon(replicas.roll)
            await anyio.sleep(0.1)
            assert (left, replicas.revision) == ([1], 0), "the keeper has yet to hear of it"
            cluster.crash(replicas.handles()[0])
            await anyio.sleep(1.8)
            assert replicas.revision == 0
            assert left == [1, 1], "a change was left meanwhile"

    run(main, limit_s=86_400)
