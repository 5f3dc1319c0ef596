"""Leases, told as stories: owners that die or stand still, and members that nobody can reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio

import pool
from pool.cluster.lease import RESPITE_S
from pool.testing import FaultPlan, SimNode, SimulatedCluster, run
from pool.testing.watch import Watch
from tests.simulation.scenario import LINGERS_S
from tests.tree import hosts_of

LEASE_S, GRACE_S = 21.0, 12.0
Story = Callable[[SimulatedCluster, "Driver"], Awaitable[None]]


class Driver:
    """A process that opens a pool of two replicas with two hosts each, and looks after it."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster
        self.is_up = anyio.Event()
        self.is_to_close = anyio.Event()
        self.has_closed = anyio.Event()
        self.actor = cluster.drive(self.main)

    async def main(self, cluster: SimulatedCluster) -> None:
        self.pool = pool.ReplicaPool(
            "r",
            shape=pool.ReplicaShape(devices=16),
            cluster=cluster,
            lease_s=LEASE_S,
            drain=pool.DrainPolicy(timeout_s=GRACE_S),
        )
        cluster.listen(self.pool)
        self.watch = Watch(self.pool, cluster)
        async with self.pool:
            await self.pool.scale(2, timeout_s=60)
            self.is_up.set()
            await self.is_to_close.wait()
        self.has_closed.set()

    @property
    def ids(self) -> list[str]:
        return [member.id for member in self.pool.members(serving=True)]

    async def close(self) -> None:
        self.is_to_close.set()
        await self.has_closed.wait()
        self.watch.check_closed()


def with_a_driver(nodes: int) -> Callable[[Story], Callable[[], None]]:
    """Tell a story that begins when the driver's pool is up."""

    def decorate(story: Story) -> Callable[[], None]:
        def runs() -> None:
            async def main() -> None:
                cluster = SimulatedCluster([SimNode(gpus=8)] * nodes)
                driver = Driver(cluster)
                await driver.is_up.wait()
                # Past the grace of the health checks.
                await anyio.sleep(60)
                assert len(driver.ids) == 2
                await story(cluster, driver)

            run(main, limit_s=86_400)

        runs.__name__ = story.__name__
        return runs

    return decorate


@with_a_driver(nodes=4)
async def test_nothing_is_left_of_a_driver_that_crashes(
    cluster: SimulatedCluster, driver: Driver
) -> None:
    """INV-4. The cluster itself ends what a dead process owned."""
    cluster.crash(driver.actor)
    await anyio.sleep(1)
    assert not cluster.left()


@with_a_driver(nodes=4)
async def test_members_of_a_driver_that_stands_still_end_themselves(
    cluster: SimulatedCluster, driver: Driver
) -> None:
    """INV-4, INV-17. The cluster sees a driver that lives; only the leases tell that it does not
    look after anything."""
    cluster.freeze_driver(driver.actor, for_s=600)
    await anyio.sleep(LEASE_S - 10)
    assert len(cluster.actors("host")) == 4, "until its lease is over, everybody goes on"
    await anyio.sleep(10 + GRACE_S + RESPITE_S)
    driver.watch.check()
    assert cluster.actors() == [driver.actor]
    assert cluster.left() == [f"actor {cluster.world.actors[driver.actor.id]}"]


@with_a_driver(nodes=4)
async def test_a_driver_that_goes_on_after_the_leases_begins_anew(
    cluster: SimulatedCluster, driver: Driver
) -> None:
    before = driver.ids
    cluster.freeze_driver(driver.actor, for_s=600)
    await anyio.sleep(640)
    driver.watch.check()
    assert len(driver.ids) == 2
    assert not set(before) & set(driver.ids)
    await driver.close()


@with_a_driver(nodes=4)
async def test_a_standstill_that_is_shorter_than_the_lease_disturbs_nobody(
    cluster: SimulatedCluster, driver: Driver
) -> None:
    """INV-9. Standing still from just after a poll to just before the leases end."""
    before = driver.ids
    for _ in range(5):
        cluster.freeze_driver(driver.actor, for_s=LEASE_S - 8)
        await anyio.sleep(60)
        driver.watch.check()
    assert driver.ids == before
    assert not driver.pool.failures
    await driver.close()


@with_a_driver(nodes=5)
async def test_a_node_that_is_heard_again_before_the_cluster_gives_it_up_disturbs_nobody(
    cluster: SimulatedCluster, driver: Driver
) -> None:
    before = driver.ids
    cluster.silence_node(driver.pool[0].nodes[0], for_s=9)
    await anyio.sleep(60)
    driver.watch.check()
    assert driver.ids == before
    await driver.close()


@with_a_driver(nodes=6)
async def test_a_node_that_is_heard_again_before_the_lease_is_over_ends_what_was_given_up(
    cluster: SimulatedCluster, driver: Driver
) -> None:
    """The member was judged ill while the cluster still believed in its node, and was told to end.
    It does so at once when it is heard, and its slot has nobody to wait for."""
    cluster.faults = patient(cluster, silence_s=300)
    replica = driver.pool[0]
    cluster.silence_node(replica.nodes[0], for_s=LEASE_S - 1)
    await anyio.sleep(LEASE_S - 2)
    driver.watch.check()
    assert any(actor.identity.member == replica.id for actor in cluster.actors())
    await anyio.sleep(2)
    assert not [actor for actor in cluster.actors() if replica.id in actor.identity.member]
    await anyio.sleep(30)
    driver.watch.check()
    assert driver.pool.is_settled
    assert not driver.watch.occasions["cut off"]
    await driver.close()


@with_a_driver(nodes=6)
async def test_a_node_that_is_heard_again_after_the_lease_finds_its_members_ended(
    cluster: SimulatedCluster, driver: Driver
) -> None:
    """INV-17."""
    cluster.faults = patient(cluster, silence_s=300)
    replica = driver.pool[0]
    assert replica.actor is not None
    cluster.silence_node(replica.nodes[0], for_s=200)
    await anyio.sleep(LEASE_S + GRACE_S + RESPITE_S)
    assert cluster.world.actors[replica.actor.id].state == "ended"
    driver.watch.check()
    await anyio.sleep(200)
    driver.watch.check()
    assert driver.pool.is_settled
    assert len(driver.ids) == 2
    await driver.close()


@with_a_driver(nodes=6)
async def test_the_slot_of_a_gang_waits_for_the_one_host_that_is_cut_off(
    cluster: SimulatedCluster, driver: Driver
) -> None:
    """INV-1. The replica itself is reached, and ends; the host on the other node may live on."""
    replica = driver.pool[0]
    host = hosts_of(replica)[1].actor
    cluster.silence_node(replica.nodes[1], for_s=3600)
    begun = anyio.current_time()
    await anyio.sleep(cluster.faults.silence_s + 0.1)
    assert host.id in cluster.world.cut_off
    lived_s = 0.0
    while host.id in cluster.world.cut_off:
        driver.watch.check()
        lived_s = anyio.current_time() - begun
        await anyio.sleep(1)
    assert LEASE_S - 6 < lived_s < LEASE_S + GRACE_S + RESPITE_S
    # The rank has gone to a slot of its own long ago, and the old one is closed when it is sure.
    assert sorted(driver.ids) == ["r/1.1", "r/2.1"]
    await anyio.sleep(LINGERS_S)
    driver.watch.check()
    assert driver.pool.is_settled
    await driver.close()


def patient(cluster: SimulatedCluster, *, silence_s: float) -> FaultPlan:
    """Let the cluster believe in silent nodes for longer."""
    return replace(cluster.faults, silence_s=silence_s)
