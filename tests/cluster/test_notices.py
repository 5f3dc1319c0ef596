"""Notices on a real Ray: replacement first where there is room, gone in time where not."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from ray.util.placement_group import placement_group, remove_placement_group

import pool
from pool import EventKind, Notice, NoticeKind, State
from pool.cluster.ray import private
from pool.errors import NotAdmitted
from pool.testing.notices import FakeAws, FakeAzure, FakeGce, FakeService
from tests import hosts
from tests.notices.asking import OnlyOn
from tests.tree import BRIEF, QUICK, Story, every_gpu_taken, hosts_of, ids_of, until
from tests.world import World

pytestmark = pytest.mark.ray

HALF_A_NODE = pool.ReplicaShape(devices=2)
WHOLE_NODE = pool.ReplicaShape(devices=4)
LADDER_S = BRIEF.timeout_s


class Told:
    """Say of nodes what a test writes down."""

    def __init__(self) -> None:
        self.notices: dict[str, Notice] = {}
        self.source = pool.notices.FunctionNotices(self.ask, period_s=0.1)

    def ask(self, nodes: Sequence[str]) -> Mapping[str, Notice]:
        return {node: self.notices[node] for node in nodes if node in self.notices}

    def warn(self, member: pool.Member[Any], in_s: float | None) -> None:
        deadline = None if in_s is None else time.time() + in_s
        notice = Notice(kind=NoticeKind.PREEMPT, deadline=deadline, reason="the test")
        for node in member.nodes:
            self.notices[node] = notice


def open_pool(
    told: Told, shape: pool.ReplicaShape = WHOLE_NODE, **options: Any
) -> pool.ReplicaPool:
    options = {"restart": QUICK, "drain": BRIEF, **options}
    return pool.ReplicaPool("warned", shape=shape, notices=[told.source], **options)


async def until_left(replicas: pool.ReplicaPool, member_id: str, timeout_s: float = 30) -> None:
    await until(
        replicas, lambda: member_id in {report.member for report in replicas.reports}, timeout_s
    )


def test_a_member_with_a_notice_keeps_its_rank_until_its_replacement_is_ready(
    world: World,
) -> None:
    """Row P7, INV-3: the replacement first, the old one drained in good order, no other touched."""

    async def main() -> None:
        told = Told()
        async with open_pool(told) as replicas:
            await replicas.scale(2, timeout_s=60)
            other, warned = ids_of(replicas[0]), replicas[1]
            world.watch(*(host.pid for host in hosts_of(warned)))
            story = Story(replicas)
            told.warn(warned, in_s=120)
            await until(replicas, lambda: len(replicas.snapshot().slots) == 3)
            assert replicas[1].id == warned.id, "it keeps its rank"
            assert replicas[1].state is State.READY, "and works on"
            notice = replicas.snapshot().slots[1].member
            assert notice is not None
            assert [n.left_s for n in notice.notices] == [pytest.approx(120, abs=10)]
            await until_left(replicas, warned.id)
            await replicas.wait_settled(30)
            assert [(member.slot, member.rank) for member in replicas.members()] == [(0, 0), (2, 1)]
            assert set(replicas[1].nodes).isdisjoint(warned.nodes)
            assert ids_of(replicas[0]) == other
            [report] = replicas.reports
            assert (report.member, report.rung, report.troubles) == (warned.id, "hook", ())
            ranked = story.of(EventKind.SLOT_RANKED, 2)[0]
            drained = next(
                event
                for event in story.of(EventKind.MEMBER_STATE, 1)
                if event.facts["state"] == State.DRAINING
            )
            kinds = [event for _, event in story.heard]
            assert kinds.index(ranked) < kinds.index(drained)
            assert not story.of(EventKind.MEMBER_FAULT), "leaving with a notice is no fault"

    anyio.run(main)


def test_a_file_on_the_node_is_a_notice(world: World, tmp_path: Path) -> None:
    """Row P7: through node host, replica and lifeline; `{node_id}` tells nodes apart."""

    async def main() -> None:
        source = pool.notices.FileNotice(tmp_path / "{node_id}", period_s=0.1)
        async with pool.ReplicaPool(
            "warned", shape=WHOLE_NODE, notices=[source], restart=QUICK, drain=BRIEF
        ) as replicas:
            await replicas.scale(2, timeout_s=60)
            other, warned = ids_of(replicas[0]), replicas[1]
            story = Story(replicas)
            text = {"kind": "maintenance", "deadline": time.time() + 60, "reason": "new disks"}
            (tmp_path / warned.nodes[0]).write_text(json.dumps(text))
            await story.until(EventKind.MEMBER_NOTICE)
            [event] = story.of(EventKind.MEMBER_NOTICE)
            assert event.slot == 1
            assert "maintenance" in event.facts["notice"]
            assert "new disks" in event.facts["notice"]
            assert event.facts["left_s"] == pytest.approx(60, abs=10)
            await until_left(replicas, warned.id)
            await replicas.wait_settled(30)
            assert ids_of(replicas[0]) == other
            assert set(replicas[1].nodes).isdisjoint(warned.nodes)

    anyio.run(main)


def test_a_node_that_ray_drains_is_left(world: World) -> None:
    """Row P6: Ray's own draining nodes are always asked; the node is ours alone, and added here."""
    cluster = world.cluster.cluster
    with every_gpu_taken():
        node = cluster.add_node(num_cpus=8, num_gpus=4)
        try:

            async def main() -> None:
                async with pool.ReplicaPool(
                    "warned", shape=WHOLE_NODE, restart=QUICK, drain=BRIEF
                ) as replicas:
                    await replicas.scale(1, timeout_s=60)
                    warned = replicas[0]
                    assert warned.nodes == (node.node_id,)
                    story = Story(replicas)
                    assert private.drain_node(node.node_id, "the test", time.time() + 60)
                    await until(replicas, lambda: len(replicas.snapshot().slots) == 2)
                    [event] = story.of(EventKind.MEMBER_NOTICE, 0)
                    assert "from ray" in event.facts["notice"]
                    # Nothing else is free, and a draining node takes nobody.
                    await until(replicas, lambda: bool(replicas.snapshot().slots[-1].reason))
                    assert replicas[0].id == warned.id
                    extra = cluster.add_node(num_cpus=8, num_gpus=4)
                    try:
                        await until_left(replicas, warned.id, 60)
                        await replicas.wait_settled(30)
                        assert replicas[0].nodes == (extra.node_id,)
                    finally:
                        await replicas.drain(timeout_s=30)
                        cluster.remove_node(extra)

            anyio.run(main)
        finally:
            cluster.remove_node(node)


def test_a_withdrawn_notice_ends_the_replacement_and_the_member_stays(
    world: World, tmp_path: Path
) -> None:
    async def main() -> None:
        told, hold = Told(), tmp_path / "hold"
        async with open_pool(told, host=hosts.Held, host_args=(hold,)) as replicas:
            await replicas.scale(1, timeout_s=60)
            before = replicas[0]
            story = Story(replicas)
            hold.touch()
            told.warn(before, in_s=120)
            await until(replicas, lambda: "starting" in story.states(1, 1))
            told.notices.clear()
            await until_left(replicas, "warned/1.1")
            await replicas.wait_settled(30)
            assert ids_of(replicas[0]) == ids_of(before)
            assert replicas[0].state is State.READY
            assert len(replicas.snapshot().slots) == 1
            assert "withdrawn" in story.of(EventKind.MEMBER_NOTICE, 0)[-1].facts["notice"]
            assert not story.states(0, 1), "it was never anything but ready"

    anyio.run(main)


async def is_refused(ask: Callable[..., Awaitable[Any]], *args: Any) -> bool:
    try:
        await ask(*args)
    except NotAdmitted:
        return True
    return False


def test_a_draining_member_comes_back_when_its_notice_is_withdrawn(world: World) -> None:
    async def main() -> None:
        told = Told()
        async with open_pool(told, surge=0, drain=pool.DrainPolicy(timeout_s=20)) as replicas:
            await replicas.scale(1, timeout_s=60)
            before = replicas[0]
            story = Story(replicas)
            [host] = hosts_of(before)
            ask = functools.partial(replicas.cluster.call, host.actor, "execute")
            async with anyio.create_task_group() as tasks:
                # Work that the pool does not count, so that only the host can wait for its end.
                tasks.start_soon(ask, hosts.nap, (10.0,))
                # Less time than the ladder takes, so that it drains at once.
                told.warn(before, in_s=19)
                await until(replicas, lambda: replicas[0].state is State.DRAINING)
                assert replicas.members(serving=True) == []
                with anyio.fail_after(8):
                    while not await is_refused(ask, abs, (-2,)):  # noqa: ASYNC110 - nobody tells
                        await anyio.sleep(0.05)
                told.notices.clear()
                await until(replicas, lambda: replicas[0].state is State.READY)
            await replicas.wait_settled(30)
            assert story.states(0, 1) == ["draining", "ready"]
            assert ids_of(replicas[0]) == ids_of(before)
            # It was told to take no work, and has to be told to take it again.
            assert await replicas.broadcast(abs, -2, flat=True) == [2]

    anyio.run(main)


def test_a_deadline_nearer_than_the_ladder_drains_at_once(world: World) -> None:
    """INV-7: no replacement is waited for when that would be too late."""

    async def main() -> None:
        told = Told()
        async with open_pool(told) as replicas:
            await replicas.scale(1, timeout_s=60)
            warned = replicas[0]
            story = Story(replicas)
            deadline = time.time() + LADDER_S / 2
            told.warn(warned, in_s=LADDER_S / 2)
            await until_left(replicas, warned.id)
            assert time.time() < deadline
            assert story.states(0, 1) == ["draining", "stopping", "gone"]
            await replicas.wait_settled(60)
            assert set(replicas[0].nodes).isdisjoint(warned.nodes)
            assert not story.of(EventKind.MEMBER_FAULT)

    anyio.run(main)


def test_without_surge_a_member_leaves_before_its_successor_starts(world: World) -> None:
    """INV-2, INV-7: never two at once; it works on until the ladder has to begin."""

    async def main() -> None:
        told = Told()
        async with open_pool(told, surge=0) as replicas:
            await replicas.scale(1, timeout_s=60)
            warned = replicas[0]
            story = Story(replicas)
            warned_at = time.time()
            told.warn(warned, in_s=LADDER_S + 2)
            await until_left(replicas, warned.id)
            drained = next(
                event
                for event in story.of(EventKind.MEMBER_STATE, 0)
                if event.facts["state"] == State.DRAINING
            )
            assert drained.at - warned_at >= 1.5
            assert time.time() < warned_at + LADDER_S + 2
            await replicas.wait_settled(60)
            assert set(replicas[0].nodes).isdisjoint(warned.nodes)
            live = peak = 1
            for event in story.of(EventKind.MEMBER_STATE):
                live += {"pending": 1, "gone": -1}.get(event.facts["state"], 0)
                peak = max(peak, live)
            assert peak == 1

    anyio.run(main)


def test_without_surge_and_without_a_deadline_there_is_nothing_to_wait_for(world: World) -> None:
    async def main() -> None:
        told = Told()
        async with open_pool(told, surge=0) as replicas:
            await replicas.scale(1, timeout_s=60)
            warned = replicas[0]
            told.warn(warned, in_s=None)
            await until_left(replicas, warned.id, 20)
            await replicas.wait_settled(60)
            assert set(replicas[0].nodes).isdisjoint(warned.nodes)

    anyio.run(main)


def test_a_member_without_room_for_a_replacement_is_gone_by_its_deadline(world: World) -> None:
    """INV-7; and the snapshot says what the replacement waits for."""

    async def main() -> None:
        told = Told()
        policy = pool.DrainPolicy(timeout_s=4)
        async with open_pool(told, drain=policy) as replicas:
            await replicas.scale(1, timeout_s=60)
            with every_gpu_taken(nodes=5):
                warned = replicas[0]
                deadline = time.time() + 11
                told.warn(warned, in_s=11)
                await until(
                    replicas,
                    lambda: any("somebody else" in s.reason for s in replicas.snapshot().slots),
                )
                assert replicas[0].id == warned.id
                await until_left(replicas, warned.id)
                assert time.time() < deadline
                assert replicas.members(serving=True) == []
            await until(replicas, lambda: bool(replicas.members(serving=True)), 60)
            assert set(replicas[0].nodes).isdisjoint(warned.nodes)

    anyio.run(main)


def test_a_replacement_is_not_put_on_the_node_that_is_leaving(world: World) -> None:
    """With room on that node alone it waits; a start there would only be stopped again."""

    async def main() -> None:
        told = Told()
        async with open_pool(told, HALF_A_NODE) as replicas:
            await replicas.scale(1, timeout_s=60)
            warned = replicas[0]
            others = placement_group([{"GPU": 4.0}] * 5, strategy="STRICT_SPREAD")
            try:
                assert others.wait(30)
                story = Story(replicas)
                told.warn(warned, in_s=100)
                await until(replicas, lambda: len(replicas.snapshot().slots) == 2)
                # Whatever happens in two seconds, no member may be started on that node.
                await anyio.sleep(2)
                started = [
                    event
                    for event in story.of(EventKind.MEMBER_STATE)
                    if event.facts["state"] == State.STARTING
                ]
                assert not started, [str(event) for _, event in story.heard]
                assert replicas[0].id == warned.id
            finally:
                remove_placement_group(others)
            await until_left(replicas, warned.id)
            await replicas.wait_settled(30)
            assert set(replicas[0].nodes).isdisjoint(warned.nodes)

    anyio.run(main)


def preempt_on(fake: FakeService) -> float:
    """Announce the node's end as its cloud does, and return when it is, in UNIX seconds."""
    match fake:
        case FakeGce():
            fake.preempt()
            return time.time() + 30
        case FakeAws():
            fake.interrupt(in_s=120)
            return time.time() + 120
        case FakeAzure():
            fake.announce("Preempt", in_s=30)
            return time.time() + 30
        case _:
            raise AssertionError(fake)


@pytest.mark.parametrize("cloud", [FakeGce, FakeAws, FakeAzure])
def test_a_clouds_notice_is_answered_within_the_time_that_the_cloud_leaves(
    world: World, tmp_path: Path, cloud: type[FakeService], record_property: Any
) -> None:
    """Rows P2 to P4, P10: heard, replaced, drained; with the platforms' own periods."""
    marked = tmp_path / "node"

    async def main() -> None:
        with cloud() as fake:
            asks: dict[type[FakeService], Callable[[str], pool.notices.NodeNoticeSource]] = {
                FakeGce: pool.notices.GcePreemption,
                FakeAws: pool.notices.AwsSpotInterruption,
                FakeAzure: pool.notices.AzureScheduledEvents,
            }
            source = OnlyOn(marked, asks[cloud](fake.url))
            async with pool.ReplicaPool(
                "warned", shape=WHOLE_NODE, notices=[source], restart=QUICK, drain=BRIEF
            ) as replicas:
                await replicas.scale(1, timeout_s=60)
                warned = replicas[0]
                story = Story(replicas)
                marked.write_text(warned.nodes[0])
                # As it is when nothing has been announced for long.
                while not fake.questions:  # noqa: ASYNC110 - nobody tells
                    await anyio.sleep(0.05)
                await anyio.sleep(1)
                announced = time.monotonic()
                ends = preempt_on(fake)
                heard = await story.until(EventKind.MEMBER_NOTICE) - announced
                await until_left(replicas, warned.id)
                drained, left = time.monotonic() - announced, ends - time.time()
                assert left > 0
                assert set(replicas[0].nodes).isdisjoint(warned.nodes)
                [report] = replicas.reports
                assert (report.rung, report.troubles) == ("hook", ())
                assert not story.of(EventKind.MEMBER_FAULT)
                for name, value in (("heard", heard), ("drained", drained), ("left", left)):
                    record_property(name, round(value, 2))
                print(f"{cloud.__name__}: {heard=:.2f} {drained=:.2f} {left=:.1f}")

    anyio.run(main)


def test_two_pools_on_a_node_ask_its_service_once(world: World) -> None:
    """Row P8: their hosts are different processes."""

    async def main() -> None:
        with FakeAws() as aws:
            source = pool.notices.AwsSpotInterruption(aws.url, period_s=0.5)

            def half(name: str, nodes: frozenset[str] | None) -> pool.ReplicaPool:
                selector = pool.NodeSelector(node_ids=nodes)
                shape = pool.ReplicaShape(devices=2, selector=selector)
                return pool.ReplicaPool(name, shape=shape, notices=[source], restart=QUICK)

            async with half("one", None) as one:
                await one.scale(1, timeout_s=60)
                home = one[0].nodes[0]
                async with half("two", frozenset([home])) as two:
                    await two.scale(1, timeout_s=60)
                    assert two[0].nodes == (home,)
                    assert hosts_of(one[0])[0].pid != hosts_of(two[0])[0].pid
                    await anyio.sleep(2)
                    tokens = [q for q in aws.questions if q.method == "PUT"]
                    assert len(tokens) == 1
                    stories = [Story(one), Story(two)]
                    aws.interrupt(in_s=600)
                    for story in stories:
                        await story.until(EventKind.MEMBER_NOTICE)

    anyio.run(main)


def test_whoever_learns_first_tells_ray_which_then_places_nothing_there(world: World) -> None:
    """Row P9. The node is ours alone, and added here, for Ray ends it once it is empty."""
    cluster = world.cluster.cluster
    with every_gpu_taken():
        node = cluster.add_node(num_cpus=8, num_gpus=4)
        try:

            async def main() -> None:
                told = Told()
                policy = pool.NoticePolicy(tell_cluster=[NoticeKind.PREEMPT])
                async with open_pool(told, notice_policy=policy) as replicas:
                    await replicas.scale(1, timeout_s=60)
                    warned = replicas[0]
                    assert warned.nodes == (node.node_id,)
                    story = Story(replicas)
                    deadline = time.time() + 60
                    told.warn(warned, in_s=60)
                    await story.until(EventKind.CLUSTER_TOLD)
                    [event] = story.of(EventKind.CLUSTER_TOLD)
                    assert (event.facts["node"], event.facts["accepted"]) == (node.node_id, True)
                    at_ms = private.draining_nodes()[node.node_id]
                    assert at_ms / 1000 == pytest.approx(deadline, abs=5)
                    await story.until(EventKind.MEMBER_NOTICE, n=2)
                    assert "from ray" in story.of(EventKind.MEMBER_NOTICE)[1].facts["notice"]
                    await replicas.drain(timeout_s=30)

            anyio.run(main)
        finally:
            cluster.remove_node(node)
