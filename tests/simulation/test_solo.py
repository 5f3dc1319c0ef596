"""A replica of one host is that host: one actor, that answers as any replica does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run
from tests.tree import hosts_of

Story = Callable[[SimulatedCluster, pool.ReplicaPool], Awaitable[None]]
ONE, TWO = pool.ReplicaShape(devices=8), pool.ReplicaShape(devices=16)


class Host(pool.NodeHost):
    """Say who it is, take its time, fall ill, and say goodbye."""

    ill: set[str] = set()  # noqa: RUF012 - shared on purpose: one process stands for many here
    gone: list[str] = []  # noqa: RUF012 - the same

    def start(self) -> str:
        return self.context.identity.member

    async def work(self) -> str:
        await anyio.sleep(5)
        return self.context.identity.member

    def check_health(self) -> None:
        if self.context.identity.member in self.ill:
            raise RuntimeError("no progress")

    def shutdown(self) -> None:
        self.gone.append(self.context.identity.member)


class Lingering(pool.NodeHost):
    """Take its time to say goodbye."""

    async def shutdown(self) -> None:
        await anyio.sleep(5)


class Rank:
    """Be a rank."""

    def who(self) -> str:
        return "rank"


def pool_of(story: Story, **options: Any) -> None:
    """Tell a story of a pool on four nodes of eight devices."""

    async def main() -> None:
        Host.ill.clear()
        Host.gone.clear()
        cluster = SimulatedCluster([SimNode(gpus=8)] * 4)
        replicas = pool.ReplicaPool("r", host=Host, cluster=cluster, **options)
        cluster.listen(replicas)
        async with replicas:
            await story(cluster, replicas)
        assert cluster.left(replicas.name, replicas.instance) == []

    run(main, limit_s=86_400)


def levels(cluster: SimulatedCluster) -> list[str]:
    return sorted(actor.identity.level for actor in cluster.actors())


def test_its_actor_is_its_hosts_and_there_is_no_other() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(2, timeout_s=600)
        assert levels(cluster) == ["replica", "replica"]
        for member in replicas.members():
            [host] = hosts_of(member)
            assert host.actor == member.actor
        # What users see is the same as in a replica of many.
        assert await replicas.broadcast("work", flat=True) == ["r/0.1/0.1", "r/1.1/0.1"]

    pool_of(story, shape=ONE)


def test_several_hosts_or_one_that_is_started_again_by_itself_have_somebody_above_them() -> None:
    async def many(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        assert levels(cluster) == ["host", "host", "replica"]

    async def alone(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        assert levels(cluster) == ["host", "replica"]
        [before] = replicas.members()
        [host] = hosts_of(before)
        cluster.kill(host.actor)
        await anyio.sleep(60)
        [after] = replicas.members()
        assert (after.id, hosts_of(after) == (host,)) == (before.id, False)

    pool_of(many, shape=TWO)
    pool_of(alone, shape=ONE, host_restart=pool.RestartPolicy(intensity=3))


def test_it_is_replaced_when_it_dies_and_when_it_says_that_it_is_ill() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        cluster.kill(hosts_of(replicas[0])[0].actor)
        await anyio.sleep(60)
        await replicas.wait_settled(600)
        assert [member.id for member in replicas.members(serving=True)] == ["r/0.2"]
        Host.ill.add("r/0.2/0.1")
        await anyio.sleep(120)
        await replicas.wait_settled(600)
        assert [member.id for member in replicas.members(serving=True)] == ["r/0.3"]
        causes = [failure.cause for failure in replicas.failures]
        assert causes == [pool.Cause.CRASH, pool.Cause.UNHEALTHY]

    pool_of(story, shape=ONE)


def test_its_drain_waits_for_work_and_runs_the_hook() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        work = replicas.submit("work")
        await anyio.sleep(1)
        [report] = await replicas.drain()
        assert await work == "r/0.1/0.1"
        assert (report.rung, report.troubles) == ("hook", ())
        assert Host.gone == ["r/0.1/0.1"]

    pool_of(story, shape=ONE)


def test_its_ranks_are_below_it_and_their_loss_is_its_loss() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        info = replicas[0].info
        assert info is not None
        assert {rank.actor.identity.pool for rank in info.ranks} == {"r/0.1/0.1"}
        assert await replicas.broadcast("who", on="rank", flat=True) == ["rank"] * 8
        cluster.kill(info.ranks[3].actor)
        await anyio.sleep(60)
        await replicas.wait_settled(600)
        assert replicas[0].id == "r/0.2"
        assert replicas.failures[0].cause is pool.Cause.CRASH
        assert "rank actor 3" in replicas.failures[0].detail

    pool_of(story, shape=ONE, ranks=pool.Ranks(Rank))


@pytest.mark.parametrize("shape", [ONE, TWO], ids=["one host", "two hosts"])
def test_who_was_put_down_already_is_not_adopted_by_the_next_owner(
    shape: pool.ReplicaShape,
) -> None:
    """INV-5: its ranks are gone, and its health check passes all the same."""

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(is_head=True), *[SimNode(gpus=8)] * 4])

        async def own(seen: SimulatedCluster) -> None:
            ranks = pool.Ranks(Rank, per_host=1)
            options: dict[str, Any] = {"host": Lingering, "ranks": ranks, "detached": True}
            async with pool.ReplicaPool("d", shape=shape, cluster=seen, **options) as replicas:
                await replicas.scale(1, timeout_s=600)
                began.set()

        began = anyio.Event()
        owner = cluster.drive(own)
        await began.wait()
        while cluster.actors("rank"):  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.05)
        cluster.crash(owner)
        async with pool.attach("d", cluster=cluster) as replicas:
            await replicas.scale(1, timeout_s=600)
            assert replicas[0].id == "d/0.2"
            assert set(await replicas.broadcast("who", on="rank", flat=True)) == {"rank"}
            assert "put down already" in replicas.failures[0].detail

    run(main, limit_s=86_400)
