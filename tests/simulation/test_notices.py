"""Notices in races: with a scale, a crash, a drain, each other, and their own withdrawal.

Node sources are asked by real node hosts, in virtual time; what they say is the test's.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import pytest

import pool
from pool.notices import Answer, NodeNoticeSource, NoticePolicy
from pool.planning.notice import Notice, NoticeKind
from pool.testing import SimNode, SimulatedCluster, run
from pool.testing.watch import Watch

LADDER_S = 30.0


class Site:
    """Know what is announced for each node, and be asked by sources of both kinds."""

    def __init__(self) -> None:
        self.announced: dict[str, Notice] = {}

    def announce(
        self, node: str, cluster: SimulatedCluster, in_s: float | None, **more: Any
    ) -> None:
        deadline = None if in_s is None else cluster.unix_time() + in_s
        given = {"kind": NoticeKind.PREEMPT, "deadline": deadline, "source": "site", **more}
        self.announced[node] = Notice(**given)


class OnNode(NodeNoticeSource):
    """Ask the site, on each node."""

    name = "site"
    period_s = 1.0

    def __init__(self, site: Site) -> None:
        self.site = site

    async def check(self, node_id: str, address: str) -> Notice | None:
        return self.site.announced.get(node_id)


Story = Callable[[SimulatedCluster, pool.ReplicaPool, Site], Awaitable[None]]


def play(
    story: Story,
    size: int,
    nodes: Sequence[SimNode] | int,
    seed: int = 0,
    devices: int = 16,
    **options: Any,
) -> None:
    """Tell a story of a pool; at its end the pool is closed, and nothing is left."""

    async def main() -> None:
        kinds = [SimNode(gpus=8)] * nodes if isinstance(nodes, int) else nodes
        cluster = SimulatedCluster(kinds, seed=seed)
        site = Site()
        replicas = pool.ReplicaPool(
            "r",
            shape=pool.ReplicaShape(devices=devices),
            cluster=cluster,
            notices=[OnNode(site)],
            **options,
        )
        replicas.instance = "simulated"
        cluster.listen(replicas)
        watch = Watch(replicas, cluster)
        async with replicas:
            if size:
                assert (await replicas.scale(size, timeout_s=60)).is_complete
            await story(cluster, replicas, site)
            watch.check()
        watch.check_closed()

    run(main, seed=seed, limit_s=10 * 86_400)


def states(replicas: pool.ReplicaPool, member: str) -> list[str]:
    slot, generation = member.removeprefix("r/").split(".")
    return [
        str(event.facts["state"])
        for event in replicas.events()
        if event.kind is pool.EventKind.MEMBER_STATE
        and (event.slot, event.generation) == (int(slot), int(generation))
    ]


def test_a_node_source_is_heard_through_host_and_replica_and_answered() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool, site: Site) -> None:
        before = replicas[0]
        site.announce(before.nodes[1], cluster, 120)
        await anyio.sleep(30)
        await replicas.wait_settled(60)
        assert not set(replicas[0].nodes) & set(before.nodes[1:])
        assert not replicas.failures

    play(story, 1, nodes=4)


def test_with_drain_for_an_answer_nobody_comes_before_the_member_is_gone() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool, site: Site) -> None:
        before = replicas[0]
        site.announce(before.nodes[0], cluster, 120)
        begun = anyio.current_time()
        while replicas[0].state is pool.State.READY:
            assert len(replicas.snapshot().slots) == 1
            await replicas.changed()
        assert 120 - LADDER_S - 2 < anyio.current_time() - begun <= 120 - LADDER_S
        await replicas.wait_settled(120)
        assert before.nodes[0] not in replicas[0].nodes

    policy = NoticePolicy(answers={NoticeKind.PREEMPT: Answer.DRAIN})
    play(story, 1, nodes=4, notice_policy=policy, drain=pool.DrainPolicy(timeout_s=LADDER_S))


def test_what_is_ignored_moves_nobody() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool, site: Site) -> None:
        before = [member.id for member in replicas.members()]
        site.announce(replicas[0].nodes[0], cluster, 3000, kind=NoticeKind.MAINTENANCE)
        await anyio.sleep(4000)
        assert [member.id for member in replicas.members()] == before
        assert replicas.is_settled

    policy = NoticePolicy(answers={NoticeKind.MAINTENANCE: Answer.IGNORE})
    play(story, 2, nodes=6, notice_policy=policy)


def test_advice_moves_a_member_where_there_is_room_and_nobody_where_there_is_none() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool, site: Site) -> None:
        for node in cluster.nodes:
            site.announce(node, cluster, None, kind=NoticeKind.REBALANCE, advisory=True)
        before = [member.id for member in replicas.members()]
        await anyio.sleep(3000)
        assert [member.id for member in replicas.members(serving=True)] == before
        # Whoever crashes comes back, although every node may go.
        cluster.crash(replicas.handles()[0])
        await anyio.sleep(120)
        assert len(replicas.members(serving=True)) == 2
        rooms = [cluster.add_node() for _ in range(2)]
        await anyio.sleep(200)
        assert any(set(member.nodes) <= set(rooms) for member in replicas.members(serving=True))
        assert len(replicas.members(serving=True)) == 2
        site.announced.clear()
        await anyio.sleep(10)
        await replicas.wait_settled(60)

    play(story, 2, nodes=4)


def test_maintenance_of_the_day_after_tomorrow_is_answered_the_day_after_tomorrow() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool, site: Site) -> None:
        before = replicas[0]
        site.announce(before.nodes[0], cluster, 2 * 86_400, kind=NoticeKind.MAINTENANCE)
        await anyio.sleep(2 * 86_400 - 3700)
        assert replicas[0].id == before.id
        assert replicas.is_settled
        await anyio.sleep(200)
        await replicas.wait_settled(60)
        assert before.nodes[0] not in replicas[0].nodes

    play(story, 1, nodes=4)


def test_a_notice_for_one_host_of_a_slice_moves_every_replica_of_that_slice() -> None:
    """Row P11."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool, site: Site) -> None:
        homes = [set(member.nodes) for member in replicas.members()]
        one, other, apart = homes
        labels = {
            node.node_id: node.labels.get("slice") for node in (await cluster.topology()).nodes
        }
        first = next(iter(one))
        struck = {node for node, label in labels.items() if label == labels[first]}
        concerned = sum(bool(home & struck) for home in (one, other, apart))
        assert concerned == 2, "the test's own premise: two replicas share a slice"
        site.announce(first, cluster, 300)
        await anyio.sleep(100)
        await replicas.wait_settled(200)
        after = [set(member.nodes) for member in replicas.members()]
        assert len(after) == 3
        assert not set.union(*after) & struck
        assert not replicas.failures

    slices = [SimNode(gpus=8, labels={"slice": f"s{at // 2}"}) for at in range(8)]
    policy = NoticePolicy(domain_label="slice")
    play(story, 3, nodes=slices, devices=8, surge=2, notice_policy=policy)


def test_whoever_learns_first_tells_the_cluster_and_every_other_pool_hears_of_it() -> None:
    """Row P9: the other pool asks nobody but the cluster."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool, site: Site) -> None:
        shape = pool.ReplicaShape(devices=4)
        async with pool.ReplicaPool("other", shape=shape, cluster=cluster) as other:
            await other.scale(1, timeout_s=60)
            [shared] = other[0].nodes
            assert any(shared in member.nodes for member in replicas.members())
            site.announce(shared, cluster, 120)
            await anyio.sleep(20)
            assert (await cluster.draining())[shared] == pytest.approx(
                cluster.unix_time() + 100, abs=2
            )
            await anyio.sleep(40)
            await other.wait_settled(60)
            assert other[0].nodes != (shared,)
            told = [e for e in replicas.events() if e.kind is pool.EventKind.CLUSTER_TOLD]
            assert [event.facts["node"] for event in told] == [shared]
        # The node is gone at its deadline, and nobody was on it.
        await anyio.sleep(120)
        assert shared not in cluster.nodes
        assert not replicas.failures

    policy = NoticePolicy(tell_cluster=[NoticeKind.PREEMPT])
    play(story, 7, nodes=6, devices=4, notice_policy=policy)


def test_a_notice_in_every_race_that_there_is(seed: int) -> None:
    """Rows P10, INV-7: notices come, move and go while the pool is scaled, struck and drained.

    `Watch` checks the invariants at every step. At the end everything is withdrawn, and the pool
    has to settle.
    """
    chance = random.Random(f"notices {seed}")
    answers: Mapping[NoticeKind, Answer] = {
        kind: chance.choice([Answer.REPLACE, Answer.REPLACE, *Answer]) for kind in NoticeKind
    }

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool, site: Site) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                await anyio.sleep(chance.expovariate(1 / 8))
                node = chance.choice(cluster.nodes)
                match chance.choice(["notice"] * 3 + ["withdraw", "scale", "crash", "drain"]):
                    case "notice":
                        in_s = chance.choice([None, 1.0, 20.0, 60.0, 4000.0])
                        kind = chance.choice(list(NoticeKind))
                        advisory = kind is NoticeKind.REBALANCE or chance.random() < 0.2
                        site.announce(node, cluster, in_s, kind=kind, advisory=advisory)
                    case "withdraw":
                        site.announced.pop(node, None)
                    case "scale":
                        size = chance.randint(0, 3)
                        tasks.start_soon(_scale, replicas, size)
                    case "crash":
                        if handles := replicas.handles():
                            cluster.crash(chance.choice(handles))
                    case _:
                        cluster.drain_node(node, chance.choice([None, 50.0]))
                        await anyio.sleep(chance.uniform(0, 10))
                        cluster.undrain_node(node)
        site.announced.clear()
        for node in cluster.nodes:
            cluster.undrain_node(node)
        while len(cluster.nodes) < 8:
            cluster.add_node()
        await replicas.scale(2, timeout_s=400)
        await replicas.wait_settled(600)
        assert len(replicas.members(serving=True)) == 2

    policy = NoticePolicy(
        answers=answers,
        patience_s=chance.choice([0.0, 60.0]),
        ahead_s={NoticeKind.MAINTENANCE: chance.choice([60.0, math.inf])},
    )
    play(
        story,
        2,
        nodes=8,
        seed=seed,
        surge=chance.choice([0, 1, 2]),
        spares=chance.choice([0, 0, 1]),
        restart=pool.RestartPolicy(intensity=1000),
        notice_policy=policy,
    )


async def _scale(replicas: pool.ReplicaPool, size: int) -> None:
    with contextlib.suppress(pool.SizeUnreachable):
        await replicas.scale(size, timeout_s=20)
