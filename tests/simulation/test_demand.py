"""Warm capacity in simulation: wishes come, change, are taken back, and end with their leases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.control.attach import attach
from pool.control.listing import list_pools
from pool.control.reap import reap
from pool.demand.broker import BROKER, FIRST_WISH_S, Broker, Standing
from pool.demand.wishing import NOTHING, Wish, Wisher
from pool.testing import Autoscaler, SimNode, SimulatedCluster, run

Main = Callable[[SimulatedCluster], Awaitable[None]]
HEAD = SimNode(gpus=0, is_head=True)
DELAY_S = 40.0
IDLE_S = 40.0
LEASE_S = 60.0
SOON_S = DELAY_S + 10
GONE_S = 2 * IDLE_S + 10


def simulated(main: Main) -> Callable[[], None]:
    scaler = Autoscaler(node=SimNode(gpus=4), delay_s=DELAY_S, nodes_max=20, idle_s=IDLE_S)

    def runs() -> None:
        run(lambda: main(SimulatedCluster([HEAD], autoscaler=scaler)), limit_s=86_400)

    runs.__name__ = main.__name__
    return runs


def make(cluster: SimulatedCluster, name: str = "a", **options: Any) -> pool.ReplicaPool:
    given: dict[str, Any] = {
        "shape": pool.ReplicaShape(devices=4),
        "cluster_grows": True,
        "warm": 1,
        "lease_s": LEASE_S,
    }
    return pool.ReplicaPool(name, cluster=cluster, **(given | options))


async def count(cluster: SimulatedCluster) -> int:
    return sum(not node.is_head for node in (await cluster.topology()).nodes)


async def standing(cluster: SimulatedCluster) -> Standing | None:
    broker = await cluster.find(BROKER)
    return None if broker is None else await cluster.call(broker, "look")


async def is_over(cluster: SimulatedCluster) -> bool:
    await anyio.sleep(1)
    return await standing(cluster) is None


@simulated
async def test_room_for_one_more_is_there_beside_what_the_pool_holds(
    cluster: SimulatedCluster,
) -> None:
    async with make(cluster) as replicas:
        assert (await replicas.scale(2)).is_complete
        await anyio.sleep(SOON_S)
        assert await count(cluster) == 3, "two are held, one is warm, none was ordered twice"
        began_at = anyio.current_time()
        await replicas.scale(3)
        assert anyio.current_time() - began_at < DELAY_S / 2, "it found the warm node"
        await anyio.sleep(SOON_S)
        assert await count(cluster) == 4
        await replicas.scale(1)
        await anyio.sleep(GONE_S)
        assert await count(cluster) == 2
    assert await is_over(cluster), "the broker ends when nothing is wished for"
    await anyio.sleep(GONE_S)
    assert await count(cluster) == 0


@simulated
async def test_a_pool_without_a_wish_starts_no_broker_and_grows_by_its_groups_alone(
    cluster: SimulatedCluster,
) -> None:
    async with make(cluster, warm=0) as replicas:
        await replicas.scale(2)
        await anyio.sleep(SOON_S)
        assert await count(cluster) == 2
        assert await standing(cluster) is None


@simulated
async def test_two_pools_do_not_replace_each_others_wishes(cluster: SimulatedCluster) -> None:
    async with make(cluster, "a", warm=2) as first, make(cluster, "b"):
        await anyio.sleep(SOON_S)
        assert await count(cluster) == 3
        asked = await standing(cluster)
        assert asked is not None
        assert asked.totals["GPU"] == 12
        assert len(asked.pools) == 2
        assert [one.name for one in await list_pools(cluster)] == [], "the broker is no pool"
        kept = (await reap(cluster=cluster)).kept
        assert "serves all pools" in kept["broker of all pools"]
        await first.scale(0)
    assert await is_over(cluster)


@simulated
async def test_the_wish_of_a_driver_that_is_killed_ends_with_its_lease(
    cluster: SimulatedCluster,
) -> None:
    async def drive(seen: Any) -> None:
        async with make(seen, "dead", warm=2):
            await anyio.sleep_forever()

    driver = cluster.drive(drive)
    async with make(cluster, "alive"):
        await anyio.sleep(SOON_S)
        assert await count(cluster) == 3
        cluster.crash(driver)
        await anyio.sleep(LEASE_S / 2)
        assert await count(cluster) == 3, "its lease still runs"
        await anyio.sleep(LEASE_S / 2 + GONE_S)
        assert await count(cluster) == 1
        asked = await standing(cluster)
        assert asked is not None
        assert len(asked.pools) == 1


@simulated
async def test_a_detached_pool_leaves_its_wish_to_the_next_owner_or_to_its_lease(
    cluster: SimulatedCluster,
) -> None:
    async with make(cluster, "d", detached=True) as replicas:
        await replicas.scale(1)
        await anyio.sleep(SOON_S)
        await replicas.detach()
    await anyio.sleep(LEASE_S / 2)
    assert await count(cluster) == 2, "whoever attaches soon finds the warm node"
    async with attach("d", cluster=cluster) as again:
        await anyio.sleep(2 * LEASE_S + GONE_S)
        assert await count(cluster) == 2, "the next owner wishes on"
        await again.detach()
    await anyio.sleep(LEASE_S + GONE_S)
    assert await count(cluster) == 1, "nobody would use the room: only what is held stays"
    assert await standing(cluster) is None
    async with attach("d", cluster=cluster):
        pass


@simulated
async def test_an_owner_that_was_replaced_takes_nothing_back(cluster: SimulatedCluster) -> None:
    async with make(cluster, "d", detached=True):
        await anyio.sleep(SOON_S)
        async with attach("d", cluster=cluster, takeover=True) as second:
            await anyio.sleep(LEASE_S + GONE_S)
            asked = await standing(cluster)
            assert asked is not None
            assert asked.totals["GPU"] == 4
            assert second.epoch == 2
    assert await is_over(cluster)


@simulated
async def test_a_broker_that_dies_is_followed_by_another(cluster: SimulatedCluster) -> None:
    async with make(cluster, "a"), make(cluster, "b"):
        await anyio.sleep(SOON_S)
        broker = await cluster.find(BROKER)
        assert broker is not None
        cluster.kill(broker)
        await anyio.sleep(LEASE_S / 4)
        asked = await standing(cluster)
        assert asked is not None
        assert len(asked.pools) == 2
        await anyio.sleep(GONE_S)
        assert await count(cluster) == 2, "no node was taken away meanwhile"
    assert await is_over(cluster)


@simulated
async def test_a_broker_that_dies_just_before_the_pool_closes_leaves_no_request(
    cluster: SimulatedCluster,
) -> None:
    async with make(cluster):
        await anyio.sleep(SOON_S)
        broker = await cluster.find(BROKER)
        assert broker is not None
        cluster.kill(broker)
        await anyio.sleep(1)
    assert await is_over(cluster)
    await anyio.sleep(GONE_S)
    assert await count(cluster) == 0


@simulated
async def test_a_broker_that_nobody_tells_anything_ends(cluster: SimulatedCluster) -> None:
    spec = pool.ActorSpec(body=Broker, label="PoolBroker", identity=BROKER, detached=True)
    broker = await cluster.start(spec)
    await cluster.call(broker, "start")
    await anyio.sleep(2 * FIRST_WISH_S)
    assert await standing(cluster) is None


@simulated
async def test_a_broker_whose_maker_died_before_it_was_begun_is_begun_by_the_next(
    cluster: SimulatedCluster,
) -> None:
    spec = pool.ActorSpec(body=Broker, label="PoolBroker", identity=BROKER, detached=True)
    await cluster.start(spec)
    await anyio.sleep(2 * FIRST_WISH_S)
    async with make(cluster):
        await anyio.sleep(SOON_S)
        assert await count(cluster) == 1
    assert await is_over(cluster)


@simulated
async def test_pools_that_come_and_go_at_any_moment_leave_no_broker(
    cluster: SimulatedCluster,
) -> None:
    for step in range(60):
        async with make(cluster, f"p{step}"):
            await anyio.sleep(step * 0.1)
    assert await is_over(cluster)
    await anyio.sleep(SOON_S + GONE_S)
    assert await count(cluster) == 0


@simulated
async def test_a_later_owner_is_obeyed_and_an_earlier_one_is_told(
    cluster: SimulatedCluster,
) -> None:
    told: list[str] = []
    early = Wisher(cluster, "p", 1, LEASE_S)
    late = Wisher(cluster, "p", 2, LEASE_S)

    async def four() -> Wish:
        return Wish(({"GPU": 4.0},))

    async def nothing_more() -> None:
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(late.keep_forever, four, nothing_more, told.append)
        await anyio.sleep(5)
        with pytest.raises(pool.Fenced):
            await early.keep_forever(four, nothing_more, told.append)
        await early.withdraw()
        asked = await standing(cluster)
        assert asked is not None
        assert asked.totals == {"GPU": 4.0}, "what it takes back is not the later owner's"
        tasks.cancel_scope.cancel()
    assert not told
    await late.withdraw()
    assert await is_over(cluster)
    await late.withdraw()
    assert NOTHING.bundles == ()


@simulated
async def test_while_the_clusters_control_is_away_the_pool_goes_on_and_wishes_later(
    cluster: SimulatedCluster,
) -> None:
    async with make(cluster):
        await anyio.sleep(SOON_S)
        cluster.stop_control(30)
        await anyio.sleep(LEASE_S + GONE_S)
        assert await count(cluster) == 1
    assert await is_over(cluster)


@simulated
async def test_warm_is_a_number_of_replicas_in_a_cluster_that_grows(
    cluster: SimulatedCluster,
) -> None:
    for wrong in (-1, 1.5, True):
        with pytest.raises(pool.ConfigError, match="warm is") as error:
            make(cluster, warm=wrong)
        assert error.value.field == "warm"
    with pytest.raises(pool.ConfigError, match="cluster_grows=True"):
        make(cluster, cluster_grows=False)
