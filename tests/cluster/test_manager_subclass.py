"""A manager of one's own: `describe_member` is all that it takes (rows E1, E2)."""

from __future__ import annotations

import os
from dataclasses import replace

import anyio
import pytest

import pool
from pool.cluster.connect import connect
from pool.host.plan import HostPlan
from pool.manager.policies import Policies
from pool.planning.shape import plan_shape
from pool.replica.host_pool import gang_policy
from tests import hosts
from tests.hosts import Clerk, ClerkInfo
from tests.tree import HASTY, QUICK, Story, kill, until
from tests.world import World

pytestmark = pytest.mark.ray


class Office(pool.ResourcePoolManager[ClerkInfo]):
    """Hold clerks, which reserve nothing and are placed wherever Ray likes."""

    level = "clerk"

    async def describe_member(
        self, identity: pool.Identity, reservation: pool.Reservation | None
    ) -> pool.ActorSpec:
        assert reservation is None
        return pool.ActorSpec(body=Clerk, args=("desk",), label="Clerk", identity=identity)


def test_a_subclass_with_one_method_scales_replaces_and_drains(world: World) -> None:
    """Row E1; row E2: members with ids, info and handles, as snapshots."""

    async def main() -> None:
        office = Office("office", cluster=connect(), policies=Policies(restart=QUICK))
        async with office:
            result = await office.scale(2, timeout_s=60)
            assert result.is_complete
            members = office.members()
            assert [member.id for member in members] == ["office/0.1", "office/1.1"]
            assert [(member.slot, member.rank, member.generation) for member in members] == [
                (0, 0, 1),
                (1, 1, 1),
            ]
            assert [member.state for member in members] == [pool.State.READY] * 2
            assert [member.info.desk for member in members if member.info] == ["desk", "desk"]
            assert office.handles() == [member.actor for member in members]
            names = world.actors().values()
            assert f"pool:office:{office.instance}:clerk:0.1:1.0" in names
            pids = [member.info.pid for member in members if member.info]
            assert len(set(pids)) == 2
            world.watch(*pids)
            # A method of one's own body, through the cluster's interface.
            handle = office.handles()[0]
            assert await office.cluster.call(handle, "stamp", 3, timeout_s=30) == "desk:3"
            story = Story(office)
            kill(pids[1])
            await story.until(pool.EventKind.MEMBER_FAULT)
            await office.wait_settled(60)
            assert [member.generation for member in office.members()] == [1, 2]
            assert members[1].generation == 1, "what was listed before does not change"
            await office.scale(1, timeout_s=60)
            assert [member.id for member in office.members()] == ["office/0.1"]
            assert office.handles() == [handle]

    anyio.run(main)


def test_every_step_of_a_members_life_can_be_overridden(world: World) -> None:
    """Row E1: the hooks are called in the order of a member's life, and `kill_member` always."""
    steps: list[str] = []

    class Told(Office):
        async def check_size(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
            steps.append("check_size")
            return await super().check_size(sizes)

        async def reserve(self, identity: pool.Identity) -> pool.Reservation | None:
            steps.append("reserve")
            return await super().reserve(identity)

        async def describe_member(
            self, identity: pool.Identity, reservation: pool.Reservation | None
        ) -> pool.ActorSpec:
            steps.append("describe_member")
            return await super().describe_member(identity, reservation)

        async def open_member(self, actor: pool.Actor, timeout_s: float) -> ClerkInfo:
            steps.append("open_member")
            return replace(await super().open_member(actor, timeout_s), desk="mine")

        async def drain_member(self, actor: pool.Actor, budget_s: float) -> None:
            steps.append("drain_member")
            await super().drain_member(actor, budget_s)

        def kill_member(self, actor: pool.Actor, info: ClerkInfo | None) -> None:
            steps.append("kill_member")
            super().kill_member(actor, info)

    async def main() -> None:
        async with Told("office", cluster=connect()) as office:
            await office.scale(1, timeout_s=60)
            info = office[0].info
            assert info is not None
            assert info.desk == "mine"

    anyio.run(main)
    assert steps == [
        "check_size",
        "reserve",
        "describe_member",
        "open_member",
        "drain_member",
        "kill_member",
    ]


def test_what_describe_member_raises_is_the_cause_of_the_failure(world: World) -> None:
    class Broken(Office):
        async def describe_member(
            self, identity: pool.Identity, reservation: pool.Reservation | None
        ) -> pool.ActorSpec:
            raise pool.Permanent("there is no desk")

    async def main() -> None:
        async with Broken("office", cluster=connect()) as office:
            with pytest.raises(pool.SizeUnreachable, match="there is no desk") as caught:
                await office.scale(1, timeout_s=30)
            assert isinstance(caught.value.__cause__, pool.PoolFailed)
            assert "verdict" in caught.value.__cause__.cause

    anyio.run(main)


def test_a_host_pool_works_by_itself_over_a_reservation(world: World) -> None:
    """Rows E8, E13, E14: the class that replicas contain, here in the driver, one host a bundle."""

    async def main() -> None:
        cluster = connect()
        shape = plan_shape(pool.ReplicaShape(devices=8), await cluster.topology())
        identity = pool.Identity(pool="gang", instance="abc", slot=0, generation=1)
        reservation = await cluster.reserve(shape, identity, 30)
        try:
            failures: list[object] = []
            gang = pool.HostPool(
                identity,
                HostPlan(
                    host_class=hosts.Talkative,
                    policies=Policies(health=HASTY, restart=gang_policy(None)),
                ),
                reservation,
                cluster,
                on_failed=lambda host, fault: failures.append((host, fault)),
                on_notices=lambda notices: None,
            )
            async with gang:
                await gang.scale(2, timeout_s=60)
                infos = [member.info for member in gang.members()]
                assert [info.node_id for info in infos if info] == list(reservation.nodes)
                pids = [info.pid for info in infos if info]
                world.watch(*pids)
                assert os.getpid() not in pids
                kill(pids[1])
                await until(gang, lambda: gang.failed is not None)
                assert len(failures) == 1
                assert gang.failures[0].slot == 1
                # A gang is not mended by itself: the level above replaces all of it.
                assert [member.slot for member in gang.members(serving=True)] == [0]
            assert reservation.id in world.groups(), "the group is not the hosts' to remove"
        finally:
            await cluster.release(reservation)

    anyio.run(main)
