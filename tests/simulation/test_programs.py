"""Programs of several roles in simulation: all or none, and who lives beside whom."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run
from pool.testing.invariants import validate

ONE = pool.ReplicaShape(devices=1)
TWO = pool.ReplicaShape(devices=2)
FOUR = pool.ReplicaShape(devices=4)
EIGHT = pool.ReplicaShape(devices=8)


def eights(count: int) -> SimulatedCluster:
    return SimulatedCluster([SimNode(gpus=8)] * count)


def nodes_of(replicas: pool.ReplicaPool) -> list[tuple[str, ...]]:
    return [member.nodes for member in replicas.members()]


async def until(condition: Callable[[], bool], limit_s: float = 600) -> None:
    with anyio.fail_after(limit_s):
        while not condition():  # noqa: ASYNC110 - several pools change, in virtual time
            await anyio.sleep(0.1)


def is_after(member: pool.Member[pool.ReplicaInfo], replicas: pool.ReplicaPool) -> bool:
    """Return whether another has taken a member's place."""
    return any(
        each.rank == member.rank and each.serial > member.serial for each in replicas.members()
    )


async def free(cluster: SimulatedCluster) -> list[float]:
    return [node.available.get("GPU", 0) for node in (await cluster.topology()).nodes]


class Deaf(pool.NodeHost):
    """Never get ready."""

    async def start(self) -> None:
        raise pool.Permanent("this role never starts")


def test_roles_are_planned_together_and_then_are_ordinary_pools() -> None:
    """Row A6, for several roles: small ones that came first would leave no node whole."""

    async def main() -> None:
        cluster = eights(3)
        rollout = pool.ReplicaPool("rollout", shape=TWO, cluster=cluster)
        train = pool.ReplicaPool(
            "train",
            shape=pool.ReplicaShape(devices=16),
            placement=pool.Shared(),
            cluster=cluster,
        )
        async with pool.Program(rollout, train) as program:
            assert (list(program), len(program)) == (["rollout", "train"], 2)
            plan = await program.plan({"rollout": 4, "train": 1})
            assert plan.is_complete
            assert await free(cluster) == [8, 8, 8]
            reached = await program.scale({"rollout": 4, "train": 1}, timeout_s=60)
            assert {name: each.reached for name, each in reached.items()} == {
                "rollout": 4,
                "train": 1,
            }
            assert nodes_of(rollout) == [seat.nodes for seat in plan.seats["rollout"]]
            assert nodes_of(train) == [seat.nodes for seat in plan.seats["train"]]
            await program["rollout"].scale(2, timeout_s=60)
            lost = train[0]
            assert lost.actor is not None
            cluster.crash(lost.actor)
            await until(lambda: train.snapshot().settled and train.snapshot().ready == 1)
            assert train[0].nodes == lost.nodes
            snapshots = program.snapshot()
            assert [each.ready for each in snapshots.values()] == [2, 1]
            for each in (rollout, train):
                validate(each, cluster)
        assert not cluster.left()

    run(main)


def test_what_cannot_be_is_refused_by_role_and_slot_before_anything_is_made() -> None:
    async def main() -> None:
        cluster = eights(2)
        async with pool.Program(
            pool.ReplicaPool("train", shape=TWO, cluster=cluster),
            pool.ReplicaPool("rollout", shape=pool.ReplicaShape(devices=16), cluster=cluster),
        ) as program:
            with pytest.raises(pool.InfeasibleError, match="can never be there together"):
                await program.scale({"train": 1, "rollout": 1})
            with pytest.raises(pool.InfeasibleError, match="can never reach 9"):
                await program.scale({"train": 9})
            assert await free(cluster) == [8, 8]
            async with pool.ReplicaPool("other", shape=TWO, cluster=cluster) as other:
                await other.scale(1, timeout_s=60)
                with pytest.raises(pool.ProgramUnreachable) as caught:
                    await program.scale({"rollout": 1}, wait_for_room=False)
                [(slot, why)] = caught.value.missing.items()
                assert slot == "role rollout, slot 0"
                assert "has 6 GPU free (pool other holds 2 GPU)" in why
                assert str(caught.value).count("role rollout, slot 0") == 1
                assert sorted(await free(cluster)) == [6, 8]
            await program.scale({"rollout": 1}, timeout_s=60, wait_for_room=False)

    run(main)


@pytest.mark.parametrize("how", ["error", "cancelled"])
def test_a_block_that_is_broken_off_leaves_nothing_of_any_role(how: str) -> None:
    async def main() -> None:
        cluster = eights(2)
        train, infer = pair(cluster)
        program = pool.Program(train, infer)
        with anyio.CancelScope() as scope, contextlib.suppress(OSError):
            async with program:
                await program.scale({"train": 2}, timeout_s=60)
                if how == "error":
                    raise OSError("the driver's disk is full")
                scope.cancel()
                await anyio.sleep(1)
        assert (how == "cancelled") == scope.cancelled_caught
        assert cluster.left() == []
        with pytest.raises(pool.PoolClosed):
            await program.scale({"train": 1})

    run(main)


def test_a_program_waits_for_room_and_holds_nothing_meanwhile() -> None:
    async def main() -> None:
        cluster = eights(2)
        async with pool.ReplicaPool("other", shape=EIGHT, cluster=cluster) as other:
            await other.scale(1, timeout_s=60)
            async with (
                pool.Program(
                    pool.ReplicaPool("a", shape=EIGHT, cluster=cluster),
                    pool.ReplicaPool("b", shape=EIGHT, cluster=cluster),
                ) as program,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(lambda: program.scale({"a": 1, "b": 1}, timeout_s=300))
                await anyio.sleep(30)
                assert sorted(await free(cluster)) == [0, 8]
                assert list(program.waits_for) == ["role b, slot 0"]
                await other.scale(0)
                await until(lambda: all(each.ready for each in program.snapshot().values()))
            assert program.waits_for == {}

    run(main)


@pytest.mark.parametrize("size_before", [0, 1])
def test_one_role_that_fails_takes_back_what_all_have(size_before: int) -> None:
    async def main() -> None:
        cluster = eights(3)
        rollout = pool.ReplicaPool("rollout", shape=FOUR, cluster=cluster)
        broken = pool.ReplicaPool("broken", shape=FOUR, host=Deaf, cluster=cluster)
        async with pool.Program(rollout, broken) as program:
            if size_before:
                await program.scale({"rollout": size_before}, timeout_s=60)
            kept = nodes_of(rollout)
            with pytest.raises(pool.ProgramUnreachable, match="this role never starts"):
                await program.scale({"rollout": 3, "broken": 1}, timeout_s=600)
            assert nodes_of(rollout) == kept
            assert sum(await free(cluster)) == 24 - 4 * size_before
            assert (rollout.desired, broken.desired) == (size_before, 0)
        assert not cluster.left()

    run(main)


class Slow(pool.NodeHost):
    """Take an hour to get ready."""

    async def start(self) -> None:
        await anyio.sleep(3600)


@pytest.mark.parametrize("how", ["late", "cancelled"])
def test_a_program_that_is_late_or_cancelled_leaves_nothing(how: str) -> None:
    async def main() -> None:
        cluster = eights(2)
        quick = pool.ReplicaPool("quick", shape=FOUR, cluster=cluster)
        slow = pool.ReplicaPool(
            "slow", shape=FOUR, host=Slow, cluster=cluster, start_timeout_s=7200
        )
        async with pool.Program(quick, slow) as program:
            sizes: Mapping[str, int] = {"quick": 1, "slow": 2}
            if how == "late":
                with pytest.raises(pool.ProgramUnreachable, match="role slow, slot 1"):
                    await program.scale(sizes, timeout_s=60)
            else:
                with anyio.move_on_after(60) as scope:
                    await program.scale(sizes, timeout_s=600)
                assert scope.cancelled_caught
            assert await free(cluster) == [8, 8]
            assert [each.desired for each in program.snapshot().values()] == [0, 0]

    run(main)


def test_a_size_that_somebody_gives_a_role_meanwhile_is_not_taken_back() -> None:
    async def main() -> None:
        cluster = eights(2)
        quick = pool.ReplicaPool("quick", shape=FOUR, cluster=cluster)
        slow = pool.ReplicaPool(
            "slow", shape=FOUR, host=Slow, cluster=cluster, start_timeout_s=7200
        )
        async with pool.Program(quick, slow) as program, anyio.create_task_group() as tasks:

            async def scale() -> None:
                with pytest.raises(pool.ProgramUnreachable, match="role slow, slot 0"):
                    await program.scale({"quick": 1, "slow": 1}, timeout_s=60)

            tasks.start_soon(scale)
            await until(lambda: quick.is_settled and quick.desired == 1)
            await quick.scale(2, timeout_s=30)
            # Another scale of the program waits for the first, but not for ever.
            began = anyio.current_time()
            with pytest.raises(pool.ProgramUnreachable, match="another scale of it"):
                await program.scale({"quick": 3}, timeout_s=5)
            assert anyio.current_time() - began == 5
            await until(lambda: slow.desired == 0)
            assert quick.desired == 2
        assert not cluster.left()

    run(main)


def test_roles_that_live_beside_each_other_go_back_together() -> None:
    async def main() -> None:
        cluster = eights(2)
        train, infer = pair(cluster)
        slow = pool.ReplicaPool(
            "slow", shape=FOUR, host=Slow, cluster=cluster, start_timeout_s=7200
        )
        async with pool.Program(train, infer, slow) as program:
            await program.scale({"train": 1}, timeout_s=60)
            kept = [member.id for each in (train, infer) for member in each.members()]
            with pytest.raises(pool.ProgramUnreachable, match="role slow"):
                await program.scale({"train": 3, "slow": 1}, timeout_s=60)
            assert (train.desired, infer.desired, slow.desired) == (1, 1, 0)
            await until_beside(train, infer)
            assert [member.id for each in (train, infer) for member in each.members()] == kept
        assert not cluster.left()

    run(main)


def test_the_share_of_a_role_that_closes_is_there_for_the_next() -> None:
    """Row A8."""

    async def main() -> None:
        cluster = eights(1)
        train, infer = pair(cluster)
        async with train:
            await train.scale(1, timeout_s=60)
            async with infer:
                await infer.scale(1, timeout_s=60)
            async with pool.ColocatedPool("next", beside=train) as after:
                await after.scale(1, timeout_s=60)
                assert is_beside(train, after)
        assert not cluster.left()

    run(main)


def test_a_seat_that_somebody_took_meanwhile_is_looked_for_anew() -> None:
    async def main() -> None:
        cluster = eights(3)
        program = pool.Program(
            pool.ReplicaPool("a", shape=EIGHT, cluster=cluster),
            pool.ReplicaPool("b", shape=EIGHT, cluster=cluster),
        )
        thief = pool.ReplicaPool("thief", shape=EIGHT, cluster=cluster)
        async with program, thief:
            plan = await program.plan({"a": 1, "b": 1})
            [seat] = plan.seats["a"]
            thief._take_seats([seat])
            program["a"]._take_seats(plan.seats["a"])
            await thief.scale(1, timeout_s=60)
            assert nodes_of(thief) == [seat.nodes]
            await program["a"].scale(1, timeout_s=120)
            await program.scale({"b": 1}, timeout_s=60)
            assert len({nodes_of(each)[0] for each in (thief, program["a"], program["b"])}) == 3

    run(main)


def test_a_cluster_that_grows_brings_what_a_role_waits_for() -> None:
    async def main() -> None:
        from pool.testing import Autoscaler

        cluster = SimulatedCluster(
            [SimNode(gpus=8)], autoscaler=Autoscaler(node=SimNode(gpus=8), delay_s=30)
        )
        async with pool.Program(
            pool.ReplicaPool("train", shape=EIGHT, cluster=cluster),
            pool.ReplicaPool("rollout", shape=FOUR, cluster=cluster, cluster_grows=True),
        ) as program:
            reached = await program.scale({"train": 1, "rollout": 2}, timeout_s=600)
            assert reached["rollout"].is_complete

    run(main)


def test_whole_slices_are_a_role_like_any_other_and_come_down_to_those_there_are() -> None:
    async def main() -> None:
        def host(slice_name: str, worker: int) -> SimNode:
            labels = {
                "ray.io/tpu-pod-type": "v4-16",
                "ray.io/tpu-slice-name": slice_name,
                "ray.io/tpu-worker-id": str(worker),
            }
            head = {"TPU-v4-16-head": 1} if worker == 0 else {}
            return SimNode(extra={"TPU": 4, **head}, labels=labels)

        hosts = [host(name, worker) for name in "ab" for worker in (1, 0)]
        cluster = SimulatedCluster([*hosts, SimNode(gpus=8)])
        train = pool.SlicePool("train", slice_type="v4-16", clamp=True, cluster=cluster)
        rollout = pool.ReplicaPool("rollout", shape=FOUR, spares=1, cluster=cluster)
        async with pool.Program(train, rollout) as program:
            reached = await program.scale({"train": 3, "rollout": 1}, timeout_s=60)
            assert reached["train"].reached == 2
            assert {len(nodes) for nodes in nodes_of(train)} == {2}
            with anyio.fail_after(60):
                await rollout.wait_settled()
            assert rollout.snapshot().spares_ready == 1

    run(main)


# -- who lives beside whom ----------------------------------------------------------------------


def pair(
    cluster: SimulatedCluster, shares: Any = None, **options: Any
) -> tuple[pool.ReplicaPool, pool.ColocatedPool]:
    """Return two pools on the same devices."""
    train = pool.ReplicaPool(
        "train", shape=ONE, shares=shares or pool.Peers(), cluster=cluster, **options
    )
    return train, pool.ColocatedPool("infer", beside=train)


def is_beside(train: pool.ReplicaPool, infer: pool.ReplicaPool) -> bool:
    """Return whether each replica is in the reservation of the other's of its rank."""
    places = [
        {
            slot.rank: slot.incarnation.reservation.id
            for slot in replicas._slots.values()
            if slot.incarnation is not None and slot.incarnation.reservation is not None
        }
        for replicas in (train, infer)
    ]
    return places[0] == places[1]


async def until_beside(train: pool.ReplicaPool, infer: pool.ReplicaPool) -> None:
    await until(
        lambda: (
            train.is_settled
            and infer.is_settled
            and train.desired == infer.desired
            and is_beside(train, infer)
        )
    )


def test_a_role_lives_in_the_reservations_of_another_and_leaves_them_alone() -> None:
    """Row A8."""

    async def main() -> None:
        cluster = eights(2)
        train, infer = pair(cluster)
        async with pool.Program(train, infer) as program:
            await program.scale({"train": 3}, timeout_s=60)
            assert is_beside(train, infer)
            assert sum(await free(cluster)) == 13
            bundles = [
                member.info.hosts[0].bundle
                for each in (train, infer)
                for member in each.members()
                if member.info is not None
            ]
            assert bundles == [pool.Resources({"GPU": 0.5, "CPU": 0.5})] * 6
            ids = [member.id for member in train.members()]
            await infer.drain(timeout_s=60)
            assert [member.id for member in train.members()] == ids
            await infer.scale(3, timeout_s=60)
            assert is_beside(train, infer)
            await train.scale(1, timeout_s=60)
            await until_beside(train, infer)
            await train.scale(4, timeout_s=60)
            await until_beside(train, infer)
            for each in (train, infer):
                validate(each, cluster)
        assert not cluster.left()

    run(main)


@pytest.mark.parametrize("hold", [False, True])
def test_who_lives_beside_a_replica_that_is_lost_moves_with_it(hold: bool) -> None:
    async def main() -> None:
        cluster = eights(2)
        train, infer = pair(cluster, hosts_hold_devices=hold)
        async with pool.Program(train, infer) as program:
            await program.scale({"train": 2}, timeout_s=60)
            lost, beside, other = train[0], infer[0], infer[1]
            assert lost.actor is not None
            cluster.crash(lost.actor)
            await until(lambda: is_after(lost, train))
            await until_beside(train, infer)
            assert infer[0].generation > beside.generation
            assert infer[1].id == other.id
            causes = {failure.cause for failure in infer.failures}
            assert causes == {pool.Cause.PREEMPTION}, "it is not the role's own failure"
            # The other way round the target is left alone.
            kept, gone = train[1], infer[1]
            assert gone.actor is not None
            cluster.crash(gone.actor)
            await until(lambda: is_after(gone, infer))
            await until_beside(train, infer)
            assert train[1].id == kept.id
            homeless = train[0], infer[0]
            cluster.lose_node(train[0].nodes[0])
            await until(lambda: is_after(homeless[0], train) and is_after(homeless[1], infer))
            await until_beside(train, infer)
            for each in (train, infer):
                validate(each, cluster)
        assert not cluster.left()

    run(main)


async def work_for_a_while() -> None:
    await anyio.sleep(4)


def test_where_the_busiest_stays_the_role_beside_it_is_there_too() -> None:
    """Shrinking keeps the busiest of each pool by itself; then ranks say who lives beside whom."""

    async def main() -> None:
        cluster = eights(2)
        train, infer = pair(cluster)
        async with pool.Program(train, infer) as program:
            await program.scale({"train": 3}, timeout_s=60)
            busy = train[2].id
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(train[2:].broadcast, work_for_a_while)
                tasks.start_soon(infer[1:2].broadcast, work_for_a_while)
                await anyio.sleep(1)
                await train.scale(1, timeout_s=120)
            assert train[0].id == busy
            await until_beside(train, infer)
        assert not cluster.left()

    run(main)


def test_who_lives_beside_a_replica_whose_node_leaves_is_drained_with_it() -> None:
    async def main() -> None:
        cluster = eights(2)
        train, infer = pair(cluster)
        async with pool.Program(train, infer) as program:
            await program.scale({"train": 1}, timeout_s=60)
            node = train[0].nodes[0]
            cluster.drain_node(node, in_s=120)
            await until(lambda: train.members()[0].nodes[0] != node)
            await until_beside(train, infer)
            assert [report.rung for report in infer.reports] == ["hook"], infer.reports
            assert not infer.failures
        assert not cluster.left()

    run(main)


def test_the_ways_a_role_cannot_live_beside_another_are_refused_by_name() -> None:
    async def main() -> None:
        cluster = eights(1)
        train, infer = pair(cluster)
        alone = pool.ReplicaPool("alone", shape=ONE, cluster=cluster)
        nobody: Any = None
        for options, words in (
            ({"beside": nobody}, "beside is None"),
            ({"beside": alone}, "keeps its bundles for itself"),
            ({"beside": train}, "'infer' live beside it already"),
            ({"beside": infer}, "lives beside 'train' itself"),
            ({"beside": train, "shape": TWO}, "shape is given for pool 'third'"),
            ({"beside": train, "surge": 1}, "surge is given"),
            (
                {"beside": train, "cleaner": pool.DeviceCleaner(paths=["/dev/x0"], anybody=True)},
                "leave anybody out",
            ),
        ):
            with pytest.raises(pool.ConfigError, match=words):
                pool.ColocatedPool("third", **options)
        with pytest.raises(pool.ConfigError, match="'train', which is no role"):
            pool.Program(infer)
        for wrong in ((), (train, train), (nobody,)):
            with pytest.raises(pool.ConfigError, match="role"):
                pool.Program(*wrong)
        with pytest.raises(pool.ConfigError, match="detached"):
            pool.ReplicaPool("d", shape=ONE, shares=pool.Peers(), cluster=cluster, detached=True)
        with pytest.raises(pool.ConfigError, match="leave anybody out"):
            pool.ReplicaPool(
                "c",
                shape=ONE,
                shares=pool.Peers(),
                cleaner=pool.DeviceCleaner(paths=["/dev/x0"], anybody=True),
                cluster=cluster,
            )
        async with pool.Program(train, infer) as program:
            with pytest.raises(pool.ConfigError, match="no role 'critic'"):
                await program.scale({"critic": 1})
            with pytest.raises(pool.ConfigError, match="name any of train, infer"):
                await program.scale({})
            with pytest.raises(LookupError, match="no role 'critic'"):
                program["critic"]
            with pytest.raises(
                pool.ConfigError, match="'infer' is to have 1 replicas, and 'train'"
            ):
                await program.scale({"train": 2, "infer": 1})
            await program.scale({"train": 1, "infer": 0}, timeout_s=60)
            assert infer.desired == 0
            with pytest.raises(pool.InfeasibleError, match="which has 1"):
                await infer.scale(2)
            await infer.scale(1, timeout_s=60)
            with pytest.raises(pool.ConfigError, match="shape of 'train'"):
                await infer.change(shape=TWO)

    run(main)


def test_shares_that_a_bundle_does_not_have_are_refused_before_anything_is_made() -> None:
    """Row A4."""

    async def main() -> None:
        cluster = eights(1)
        crowd = pool.MainAndSides(sides=11, main_share=0.9)
        train = pool.ReplicaPool("train", shape=ONE, shares=crowd, cluster=cluster)
        async with train:
            with pytest.raises(pool.InfeasibleError, match="10 side workers"):
                await train.scale(1)
            assert await free(cluster) == [8]
        many = pool.ReplicaPool(
            "many",
            shape=pool.ReplicaShape(devices=4),
            placement=pool.Deferred(),
            shares=pool.MainAndSides(sides=2, side_share=0.1),
            cluster=cluster,
        )
        sides = [pool.ColocatedPool(name, beside=many) for name in ("reward", "reference")]
        async with pool.Program(many, *sides) as program:
            await program.scale({"many": 2}, timeout_s=60)
            for each, share in ((many, 0.8), (sides[0], 0.1), (sides[1], 0.1)):
                info = each[0].info
                assert info is not None
                assert [host.bundle["GPU"] for host in info.hosts] == [share] * 4

    run(main)
