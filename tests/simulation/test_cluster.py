"""The simulated cluster keeps the contract of `pool.cluster.interface`, and Ray's habits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.cluster.body import Bulletin, Context
from pool.cluster.interface import Death, News, ReplyKind
from pool.errors import CallTimeout, ConfigError, MemberLost, ReservationFailed
from pool.planning.shape import BundlePlan, plan_shape
from pool.testing import Autoscaler, FaultPlan, SimNode, SimulatedCluster, run

Test = Callable[[SimulatedCluster], Awaitable[None]]


def on(nodes: int = 2, **options: Any) -> Callable[[Test], Callable[[], None]]:
    """Run a test in virtual time on a cluster of nodes with 8 GPUs each."""

    def decorate(test: Test) -> Callable[[], None]:
        def runs() -> None:
            async def main() -> None:
                cluster = SimulatedCluster([SimNode(gpus=8)] * nodes, **options)
                await test(cluster)
                assert not cluster.world.room.check()

            run(main, limit_s=86_400)

        runs.__name__ = test.__name__
        return runs

    return decorate


def identity(slot: int = 0, *, owner: str = "p") -> pool.Identity:
    return pool.Identity(pool=owner, instance="x", slot=slot, generation=1)


async def plan(cluster: SimulatedCluster, gpus: int) -> BundlePlan:
    return plan_shape(pool.ReplicaShape(devices=gpus), await cluster.topology())


class Worker:
    """A body that does what a test wants."""

    def __init__(self) -> None:
        self.bulletin = Bulletin()
        self.child: pool.Actor | None = None

    async def start(self, context: Context) -> str:
        self.context = context
        return context.node_id

    async def check_health(self) -> None:
        pass

    async def lifeline(self, seen: int) -> News:
        return await self.bulletin.after(seen)

    async def sleep(self, duration_s: float) -> str:
        await anyio.sleep(duration_s)
        return "slept"

    def fail(self) -> None:
        raise KeyError("its own")

    async def sicken(self) -> None:
        async def ill() -> None:
            raise RuntimeError("no memory")

        self.check_health = ill  # type: ignore[method-assign]

    async def found(self) -> pool.Actor:
        self.child = await self.context.cluster.start(spec(identity(7, owner="p/0.1")))
        return self.child


def spec(who: pool.Identity, **options: Any) -> pool.ActorSpec:
    return pool.ActorSpec(body=Worker, label="Worker", identity=who, **options)


@on(nodes=2)
async def test_a_group_takes_room_and_gives_it_back(cluster: SimulatedCluster) -> None:
    reservation = await cluster.reserve(await plan(cluster, 16), identity(), 10)
    assert sorted(reservation.nodes) == ["n1", "n2"]
    topology = await cluster.topology()
    assert all(not node.available.get("GPU", 0) for node in topology.nodes)
    assert topology.nodes[0].held_by["pool p"]["GPU"] == 8
    await cluster.release(reservation)
    await cluster.release(reservation)
    assert all(node.available == node.total for node in (await cluster.topology()).nodes)
    assert not cluster.left()


@on(nodes=1)
async def test_a_group_without_room_waits_and_leaves_nothing_when_it_times_out(
    cluster: SimulatedCluster,
) -> None:
    held = await cluster.reserve(await plan(cluster, 8), identity(0), 10)
    begun = anyio.current_time()
    whole = await plan(cluster, 8)
    with pytest.raises(ReservationFailed, match="not ready within 5 s"):
        await cluster.reserve(whole, identity(1), 5)
    assert anyio.current_time() - begun == pytest.approx(5, abs=0.1)
    assert await cluster.leftovers("p", "x") == ["placement group g1 of p/0.1"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cluster.reserve, whole, identity(1), 60)
        await anyio.sleep(1)
        await cluster.release(held)
    assert cluster.left() == ["placement group g3 of p/1.1"]


@on(nodes=1)
async def test_a_cancelled_reservation_leaves_nothing(cluster: SimulatedCluster) -> None:
    await cluster.reserve(whole := await plan(cluster, 8), identity(0), 10)
    with anyio.move_on_after(1):
        await cluster.reserve(whole, identity(1), 60)
    assert cluster.left() == ["placement group g1 of p/0.1"]


@on(nodes=3)
async def test_a_group_that_lost_a_node_looks_for_another(cluster: SimulatedCluster) -> None:
    reservation = await cluster.reserve(await plan(cluster, 16), identity(), 10)
    cluster.lose_node(reservation.nodes[1])
    await anyio.sleep(1)
    third = next(node for node in cluster.nodes if node not in reservation.nodes)
    free = {node.node_id: node.available.get("GPU", 0) for node in (await cluster.topology()).nodes}
    assert free == {reservation.nodes[0]: 0, third: 0}
    await cluster.release(reservation)


@on(nodes=2)
async def test_nothing_new_is_placed_on_a_node_that_drains(cluster: SimulatedCluster) -> None:
    cluster.drain_node("n1", in_s=100)
    assert await cluster.draining() == {"n1": cluster.unix_time() + 100 - anyio.current_time()}
    reservation = await cluster.reserve(await plan(cluster, 8), identity(), 10)
    assert reservation.nodes == ("n2",)
    actor = await cluster.start(spec(identity(), node_id="n1"))
    death = await cluster.lifeline(actor, 0)
    assert isinstance(death, Death)
    assert death.fault.cause is pool.Cause.NODE_LOST
    await anyio.sleep(100)
    assert cluster.nodes == ["n2"]


@on(nodes=1)
async def test_a_call_reaches_the_body_and_comes_back(cluster: SimulatedCluster) -> None:
    actor = await cluster.start(spec(identity()))
    assert await cluster.call(actor, "start") == "n1"
    assert await cluster.call(actor, "sleep", 3, timeout_s=4) == "slept"
    with pytest.raises(KeyError, match="its own"):
        await cluster.call(actor, "fail")
    with pytest.raises(CallTimeout):
        await cluster.call(actor, "sleep", 3, timeout_s=2)


@on(nodes=1)
async def test_a_kill_only_initiates_and_the_lifeline_says_when(cluster: SimulatedCluster) -> None:
    actor = await cluster.start(spec(identity()))
    await cluster.call(actor, "start")
    call = asyncio.create_task(cluster.call(actor, "sleep", 100))
    await anyio.sleep(1)
    cluster.kill(actor)
    cluster.kill(actor)
    assert cluster.actors() == [actor]
    death = await cluster.lifeline(actor, 0)
    assert isinstance(death, Death)
    with pytest.raises(MemberLost):
        await call
    assert await cluster.lifeline(actor, 0) == death
    with pytest.raises(MemberLost):
        await cluster.call(actor, "start")
    assert (await cluster.poll([actor], 1))[0].kind is ReplyKind.UNAVAILABLE


@on(nodes=1)
async def test_what_an_actor_started_dies_with_it(cluster: SimulatedCluster) -> None:
    actor = await cluster.start(spec(identity()))
    await cluster.call(actor, "start")
    child = await cluster.call(actor, "found")
    await anyio.sleep(5)
    assert cluster.actors() == [actor, child]
    cluster.crash(actor)
    await anyio.sleep(1)
    assert not cluster.actors()


@on(nodes=1)
async def test_a_poll_tells_answer_error_and_silence_apart(cluster: SimulatedCluster) -> None:
    actors = [await cluster.start(spec(identity(slot))) for slot in range(3)]
    for actor in actors:
        await cluster.call(actor, "start")
    await cluster.call(actors[1], "sicken")
    cluster.hang(actors[2])
    replies = await cluster.poll(actors, 2)
    assert [reply.kind for reply in replies] == [
        ReplyKind.ANSWER,
        ReplyKind.ERROR,
        ReplyKind.TIMEOUT,
    ]
    assert replies[1].detail == "no memory"
    assert await cluster.poll([], 2) == []


@on(nodes=2)
async def test_a_silent_node_is_given_up_late_and_a_short_silence_is_survived(
    cluster: SimulatedCluster,
) -> None:
    actor = await cluster.start(spec(identity(), node_id="n1"))
    await cluster.call(actor, "start")
    cluster.silence_node("n1", for_s=5)
    assert (await cluster.poll([actor], 2))[0].kind is ReplyKind.TIMEOUT
    await anyio.sleep(5)
    assert (await cluster.poll([actor], 2))[0].kind is ReplyKind.ANSWER
    cluster.silence_node("n1", for_s=60)
    begun = anyio.current_time()
    death = await cluster.lifeline(actor, 0)
    assert isinstance(death, Death)
    assert death.fault.cause is pool.Cause.NODE_LOST
    assert anyio.current_time() - begun == pytest.approx(14, abs=0.1)


@on(nodes=1)
async def test_messages_do_not_overtake_each_other(cluster: SimulatedCluster) -> None:
    class Diary(Worker):
        async def write(self, number: int, seen: list[int]) -> None:
            seen.append(number)

    seen: list[int] = []
    actor = await cluster.start(pool.ActorSpec(body=Diary, label="Diary", identity=identity()))
    await asyncio.gather(*(cluster.call(actor, "write", n, seen) for n in range(50)))
    assert seen == list(range(50))


@on(nodes=0, autoscaler=Autoscaler(node=SimNode(gpus=4), delay_s=90, nodes_max=2))
async def test_an_autoscaler_brings_nodes_for_groups_that_wait(cluster: SimulatedCluster) -> None:
    wanted = BundlePlan(
        (pool.Resources({"GPU": 4}),) * 2, "STRICT_SPREAD", pool.NodeSelector(), "a test"
    )
    await cluster.reserve(wanted, identity(), 200)
    assert anyio.current_time() == pytest.approx(90, abs=1)
    assert cluster.nodes == ["n1", "n2"]


def test_a_plan_of_faults_is_checked_and_prints_as_it_can_be_typed() -> None:
    faults = FaultPlan(reply_lost=0.5, call_s=(0.1, 0.2))
    assert eval(repr(faults)) == faults
    assert faults.calm() == FaultPlan(call_s=(0.1, 0.2))
    assert repr(FaultPlan()) == "FaultPlan()"
    wrong: list[tuple[str, Any]] = [
        ("reply_lost", 1.5),
        ("reply_lost", True),
        ("call_s", 3),
        ("call_s", (2, 1)),
        ("notices_per_h", -1),
    ]
    for field, value in wrong:
        with pytest.raises(ConfigError) as caught:
            FaultPlan(**{field: value})
        assert caught.value.field == field


def test_nodes_and_names_are_checked() -> None:
    with pytest.raises(ConfigError, match="give SimNode values"):
        SimulatedCluster([8])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="n9"):
        SimulatedCluster().lose_node("n9")


class Unmodelled(pool.NodeHost):
    """Show that code of yours runs."""

    def start(self) -> None:
        raise AssertionError("a model runs no hosts")


@on(nodes=4, modelled=True)
async def test_a_modelled_replica_looks_like_a_real_one(cluster: SimulatedCluster) -> None:
    one = pool.ReplicaShape(devices=8)
    async with pool.ReplicaPool("o", shape=one, cluster=cluster, host=Unmodelled) as replicas:
        await replicas.scale(2)
        assert [len(member.info.hosts) for member in replicas.members() if member.info] == [1, 1]
    shape = pool.ReplicaShape(devices=16)
    async with pool.ReplicaPool("m", shape=shape, cluster=cluster) as replicas:
        await replicas.scale(2)
        assert [len(member.info.hosts) for member in replicas.members() if member.info] == [2, 2]
        cluster.crash(replicas.handles()[0])
        await anyio.sleep(0.1)
        await replicas.wait_settled(30)
        cluster.hang(replicas.handles()[1])
        await anyio.sleep(90)
        await replicas.wait_settled(30)
        assert {failure.cause for failure in replicas.failures} == {"crash", "unhealthy"}
        cluster.add_node()
        cluster.lose_node(replicas.members()[0].nodes[1])
        await anyio.sleep(0.1)
        await replicas.wait_settled(30)
        assert replicas.failures[-1].cause == "node_lost"
    assert not cluster.left()
