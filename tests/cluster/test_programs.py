"""Several roles on one real Ray: planned together, all or none, and two roles on one GPU."""

from __future__ import annotations

import os
from typing import Any

import anyio
import pytest
import ray

import pool
from tests.tree import QUICK, eventually, hosts_of, is_gone, kill, pid_of, until
from tests.world import World

pytestmark = pytest.mark.ray

ONE = pool.ReplicaShape(devices=1)
FOUR = pool.ReplicaShape(devices=4)


class Sees:
    """Tell which devices it sees, and what Ray has given it."""

    def devices(self) -> tuple[str, str, float]:
        return seen()

    def pid(self) -> int:
        return os.getpid()


def seen() -> tuple[str, str, float]:
    """Return the node, the visible devices, and how much of them Ray has given to this process."""
    context = ray.get_runtime_context()
    given = context.get_assigned_resources()
    amounts = [n for name, n in given.items() if name == "GPU" or name.startswith("GPU_group_0")]
    return context.get_node_id(), os.environ["CUDA_VISIBLE_DEVICES"], max(amounts, default=0)


class NeverReady(pool.NodeHost):
    """Fail to start, and say that trying again is no use."""

    def start(self) -> None:
        raise pool.Permanent("the model is not there")


def held_gpus() -> float:
    return float(ray.cluster_resources()["GPU"] - ray.available_resources().get("GPU", 0))


def test_two_roles_share_one_gpu_and_the_second_leaves_the_first_alone(world: World) -> None:
    """Rows A4 and A8: workers of both see the device, and hold half of it each."""

    async def main() -> None:
        train = pool.ReplicaPool(
            "train", shape=ONE, shares=pool.Peers(2), ranks=pool.Ranks(Sees), restart=QUICK
        )
        infer = pool.ColocatedPool("infer", beside=train, restart=QUICK)
        async with pool.Program(train, infer) as program:
            await program.scale({"train": 1}, timeout_s=120)
            [trains] = await train.broadcast("devices", on="rank", flat=True)
            [infers] = await infer.run(seen, flat=True)
            assert trains == infers
            assert trains[2] == 0.5
            assert len(trains[1].split(",")) == 1
            groups = [name for name in world.groups().values() if name.startswith("pool:")]
            assert len(groups) == 1, "one reservation, of the role that owns it"
            before, other = train[0].id, pid_of(infer[0].actor)
            await infer.drain(timeout_s=60)
            world.watch(other)
            assert train[0].id == before
            assert await train.broadcast("devices", on="rank", flat=True) == [trains]

    anyio.run(main)


def test_a_role_beside_a_replica_that_is_lost_moves_with_it(world: World) -> None:
    async def main() -> None:
        train = pool.ReplicaPool("train", shape=ONE, shares=pool.Peers(2), restart=QUICK)
        infer = pool.ColocatedPool("infer", beside=train, restart=QUICK)
        async with pool.Program(train, infer) as program:
            await program.scale({"train": 1}, timeout_s=120)
            lost, beside = train[0], infer[0]
            pids = [pid_of(host.actor) for each in (lost, beside) for host in hosts_of(each)]
            kill(pid_of(lost.actor))
            await until(
                train, lambda: train.is_settled and train.members()[0].serial > lost.serial, 60
            )
            await until(
                infer, lambda: infer.is_settled and infer.members()[0].serial > beside.serial, 60
            )
            await eventually(lambda: all(map(is_gone, pids)))
            assert {failure.cause for failure in infer.failures} == {pool.Cause.PREEMPTION}
            assert (await train.run(seen, flat=True)) == (await infer.run(seen, flat=True))

    anyio.run(main)


def test_roles_of_several_devices_share_each_of_them(world: World) -> None:
    """With one bundle a device, the ranks of both roles meet on the same devices."""

    async def main() -> None:
        train = pool.ReplicaPool(
            "train",
            shape=pool.ReplicaShape(devices=2),
            placement=pool.Deferred(),
            shares=pool.MainAndSides(side_share=0.25, side_cpus=0.25),
            ranks=pool.Ranks(Sees),
            restart=QUICK,
        )
        infer = pool.ColocatedPool("infer", beside=train, ranks=pool.Ranks(Sees), restart=QUICK)
        async with pool.Program(train, infer) as program:
            await program.scale({"train": 1}, timeout_s=120)
            trains = await train.broadcast("devices", on="rank", flat=True)
            infers = await infer.broadcast("devices", on="rank", flat=True)
            assert [each[:2] for each in trains] == [each[:2] for each in infers]
            assert len({device for _, device, _ in trains}) == 2
            assert [each[2] for each in (*trains, *infers)] == [0.75, 0.75, 0.25, 0.25]

    anyio.run(main)


def test_roles_share_several_devices_on_each_of_several_nodes(world: World) -> None:
    """Hosts of the first hold the devices, and lend them to those of the second."""

    async def main() -> None:
        train = pool.ReplicaPool(
            "train",
            shape=pool.ReplicaShape(devices=4, min_nodes=2),
            shares=pool.Peers(2),
            hosts_hold_devices=True,
            restart=QUICK,
        )
        infer = pool.ColocatedPool("infer", beside=train, ranks=pool.Ranks(Sees), restart=QUICK)
        async with pool.Program(train, infer) as program:
            await program.scale({"train": 1}, timeout_s=120)
            trains = await train.broadcast(seen, flat=True)
            assert [each[2] for each in trains] == [2, 2]
            assert len({node for node, _, _ in trains}) == 2
            assert [each[:2] for each in await infer.broadcast(seen, flat=True)] == [
                each[:2] for each in trains
            ]
            ranks = await infer.broadcast("devices", on="rank", flat=True)
            each_device = [
                (node, device) for node, devices, _ in trains for device in devices.split(",")
            ]
            assert [(node, device) for node, device, _ in ranks] == each_device
            assert hosts_of(infer[0])[0].bundle == pool.Resources({"GPU": 2, "CPU": 1})

    anyio.run(main)


def test_a_script_without_asyncio_holds_several_roles(world: World) -> None:
    def roles() -> pool.Program:
        train = pool.ReplicaPool("train", shape=ONE, shares=pool.Peers(2), restart=QUICK)
        return pool.Program(train, pool.ColocatedPool("infer", beside=train, restart=QUICK))

    with pool.blocking.Program(roles) as program:
        assert program.plan({"train": 1}).is_complete
        assert program.scale({"train": 1}, timeout_s=120)["infer"].is_complete
        assert {name: each.ready for name, each in program.snapshot().items()} == {
            "train": 1,
            "infer": 1,
        }
        pids = program["infer"].broadcast(os.getpid, flat=True)
        world.watch(*pids)
    with pytest.raises(pool.PoolClosed, match="program is not open"):
        program.snapshot()


def test_three_roles_come_up_together_or_not_at_all(world: World) -> None:
    """One failure releases all: no group is left, not even one that waits (row A7)."""

    async def main() -> None:
        rollout = pool.ReplicaPool("rollout", shape=ONE, restart=QUICK)
        train = pool.ReplicaPool("train", shape=FOUR, restart=QUICK)
        reward = pool.ReplicaPool("reward", shape=ONE, host=NeverReady, restart=QUICK)
        sizes = {"rollout": 2, "train": 1, "reward": 1}
        async with pool.Program(rollout, train, reward) as program:
            with pytest.raises(pool.InfeasibleError, match="can never be there together"):
                await program.scale({**sizes, "train": 6})
            with pytest.raises(pool.ProgramUnreachable, match="the model is not there"):
                await program.scale(sizes, timeout_s=120)
            for each in (rollout, train, reward):
                assert await each.cluster.leftovers(each.name, each.instance) == []
            world.eventually(lambda: held_gpus() == 0, held_gpus)
            del sizes["reward"]
            plan = await program.plan(sizes)
            reached = await program.scale(sizes, timeout_s=120)
            assert all(each.is_complete for each in reached.values())
            seats: dict[str, Any] = {
                name: [seat.nodes for seat in plan.seats[name]] for name in sizes
            }
            got = {name: [member.nodes for member in program[name].members()] for name in sizes}
            assert got == seats
            assert len(set(seats["rollout"])) == 1, "a whole node stays free"

    anyio.run(main)
