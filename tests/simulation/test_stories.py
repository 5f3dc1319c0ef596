"""Single faults on a replica pool of real hosts, each told to its end, with nothing left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.testing import FaultPlan, SimNode, SimulatedCluster, run
from pool.testing.watch import Watch
from tests.tree import hosts_of

Story = Callable[[SimulatedCluster, pool.ReplicaPool], Awaitable[None]]


def pool_of(
    size: int, nodes: int, *, faults: FaultPlan | None = None, **options: Any
) -> Callable[[Story], Callable[[], None]]:
    """Tell a story of a pool of replicas with two hosts each."""

    def decorate(story: Story) -> Callable[[], None]:
        def runs() -> None:
            async def main() -> None:
                cluster = SimulatedCluster([SimNode(gpus=8)] * nodes, faults=faults)
                shape = pool.ReplicaShape(devices=16)
                replicas = pool.ReplicaPool("r", shape=shape, cluster=cluster, **options)
                cluster.listen(replicas)
                watch = Watch(replicas, cluster)
                async with replicas:
                    if size:
                        result = await replicas.scale(size, timeout_s=60)
                        assert result.is_complete
                    await story(cluster, replicas)
                    watch.check()
                watch.check_closed()

            run(main, limit_s=86_400)

        runs.__name__ = story.__name__
        return runs

    return decorate


async def settle(replicas: pool.ReplicaPool, within_s: float) -> float:
    begun = anyio.current_time()
    await anyio.sleep(0.1)
    await replicas.wait_settled(within_s)
    return anyio.current_time() - begun


def ids(replicas: pool.ReplicaPool) -> list[str]:
    return [member.id for member in replicas.members()]


@pool_of(2, nodes=4)
async def test_a_killed_replica_comes_back_in_its_slot_and_the_other_is_left_alone(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    cluster.crash(replicas.handles()[0])
    assert await settle(replicas, 10) < 5
    assert ids(replicas) == ["r/0.2", "r/1.1"]


@pool_of(2, nodes=4)
async def test_a_member_that_starts_again_says_so_and_says_why(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    cluster.crash(replicas.handles()[0])
    seen: set[tuple[str, bool]] = set()
    while not any(member.id == "r/0.2" for member in replicas.members(serving=True)):
        await replicas.changed()
        [slot] = [slot for slot in replicas.snapshot().slots if slot.index == 0]
        if slot.member is not None and slot.member.state.is_coming:
            seen.add((str(slot.member.state), slot.reason.startswith(f"{slot.member.state}; last")))
    assert seen == {("pending", True), ("starting", True)}


@pool_of(2, nodes=4)
async def test_a_killed_host_takes_its_gang_along(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    info = replicas[1].info
    assert info is not None
    cluster.crash(info.hosts[1].actor)
    assert await settle(replicas, 10) < 5
    assert ids(replicas) == ["r/0.1", "r/1.2"]
    assert replicas.failures[0].detail.startswith("host 1:")


@pool_of(2, nodes=5)
async def test_a_lost_node_is_replaced_by_a_spare(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    lost = replicas[0].nodes[1]
    cluster.lose_node(lost)
    assert await settle(replicas, 10) < 5
    assert lost not in replicas[0].nodes
    assert replicas.failures[0].cause is pool.Cause.NODE_LOST


@pool_of(2, nodes=4)
async def test_waiting_for_a_node_is_no_failure(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    cluster.lose_node(replicas[0].nodes[0])
    await anyio.sleep(1000)
    [failure] = replicas.failures
    assert failure.cause is pool.Cause.NODE_LOST
    cluster.add_node()
    assert await settle(replicas, 120) < 70


@pool_of(1, nodes=2)
async def test_a_cluster_without_nodes_is_waited_for(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    for node in cluster.nodes:
        cluster.lose_node(node)
    await anyio.sleep(3600)
    assert len(replicas.failures) == 1
    assert replicas.failed is None
    for _ in range(2):
        cluster.add_node()
    assert await settle(replicas, 120) < 70


@pool_of(1, nodes=2)
async def test_a_hanging_health_check_is_found_within_its_periods(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    await anyio.sleep(60)
    [actor] = replicas.handles()
    cluster.hang(actor)
    begun = anyio.current_time()
    while not replicas.failures:
        await replicas.changed()
    assert anyio.current_time() - begun < 3 * 5 + 2 + 0.2
    assert await settle(replicas, 10) < 5


@pool_of(2, nodes=6)
async def test_a_notice_brings_the_replacement_first_and_nobody_is_missed(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    cluster.drain_node(replicas[0].nodes[0], in_s=120)
    begun = anyio.current_time()
    while anyio.current_time() < begun + 120:
        assert len(replicas.handles()) == 2
        await anyio.sleep(0.05)
    assert replicas.is_settled
    assert not replicas.failures


@pool_of(1, nodes=2)
async def test_a_notice_without_a_spare_drains_in_time(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    cluster.drain_node(replicas[0].nodes[0], in_s=120)
    await anyio.sleep(100)
    [report] = replicas.reports
    assert (report.rung, report.troubles) == ("hook", ())
    cluster.add_node()
    assert await settle(replicas, 120) < 70
    assert not replicas.failures


@pool_of(1, nodes=4)
async def test_a_withdrawn_notice_leaves_everything_as_it_was(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    cluster.lose_node(next(node for node in cluster.nodes if node not in replicas[0].nodes))
    node = replicas[0].nodes[0]
    cluster.drain_node(node, in_s=300)
    await anyio.sleep(20)
    cluster.undrain_node(node)
    await settle(replicas, 30)
    assert ids(replicas) == ["r/0.1"]


@pool_of(2, nodes=4)
async def test_a_pool_closes_in_its_time_although_nobody_answers(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    cluster.faults = FaultPlan(reply_lost=1.0)
    begun = anyio.current_time()
    await replicas.drain()
    assert anyio.current_time() - begun < 31


@pool_of(0, nodes=4, restart=pool.RestartPolicy(intensity=3), faults=FaultPlan(start_fails=1.0))
async def test_a_start_that_always_fails_gives_up_with_the_cause(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    with pytest.raises(pool.SizeUnreachable, match="died at once"):
        await replicas.scale(2)
    assert anyio.current_time() < 60
    await anyio.sleep(1000)
    assert not cluster.left()


@pool_of(2, nodes=4, faults=FaultPlan(shutdown_hangs=1.0, drain_hangs=1.0))
async def test_a_drain_ends_although_every_hook_hangs(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    begun = anyio.current_time()
    reports = await replicas.drain()
    assert anyio.current_time() - begun < 31
    assert [report.rung for report in reports] == ["kill", "kill"]


@pool_of(2, nodes=5, health=pool.HealthPolicy(period_s=2, timeout_s=1, failures=2))
async def test_a_silent_node_is_replaced_before_the_cluster_knows(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    await anyio.sleep(60)
    cluster.silence_node(replicas[0].nodes[0], for_s=3600)
    begun = anyio.current_time()
    while not replicas.failures:
        await replicas.changed()
    while len(replicas.members(serving=True)) < 2:
        await replicas.changed()
    assert anyio.current_time() - begun < 14
    # Its slot waits for its lease, for nobody can tell whether it lives (INV-1).
    assert [member.id for member in replicas.members(serving=True)] == ["r/2.1", "r/1.1"]
    assert await settle(replicas, 150) > 60
    assert not cluster.world.cut_off


@pool_of(2, nodes=6, spares=1)
async def test_a_spare_takes_the_place_of_a_lost_one_at_once(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    """Row N11. The rank is taken over within a message's time; the slot is filled behind it."""
    await replicas.wait_settled(60)
    spare = next(member for member in replicas.members() if member.rank is None)
    assert len(replicas.members(serving=True)) == 2, "a spare is no capacity"
    cluster.crash(hosts_of(replicas[1])[0].actor)
    begun = anyio.current_time()
    while len(replicas.members(serving=True)) == 2 and replicas[1].id != spare.id:
        await replicas.changed()
    while not (replicas[1].id == spare.id and replicas[1].state is pool.State.READY):
        await replicas.changed()
    assert anyio.current_time() - begun < 0.1
    await settle(replicas, 60)
    [again] = [member for member in replicas.members() if member.rank is None]
    assert (again.slot, again.generation) == (1, 2)


@pool_of(2, nodes=4)
async def test_a_pool_closes_although_a_node_is_silent(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    cluster.silence_node(replicas[0].nodes[0], for_s=3600)


@pool_of(0, nodes=4)
async def test_a_scale_that_is_cancelled_stays_in_force(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    with anyio.move_on_after(0.1):
        await replicas.scale(2)
    assert await settle(replicas, 30) < 10
    assert ids(replicas) == ["r/0.1", "r/1.1"]


async def cancelled_after(delay_s: float) -> None:
    cluster = SimulatedCluster([SimNode(gpus=8)] * 4)
    replicas = pool.ReplicaPool("r", shape=pool.ReplicaShape(devices=16), cluster=cluster)
    cluster.listen(replicas)
    watch = Watch(replicas, cluster)
    with anyio.move_on_after(delay_s):
        async with replicas:
            await replicas.scale(2)
            await replicas.drain()
    watch.check_closed()


@pytest.mark.parametrize("delay_s", [0, 0.0001, *(step / 20 for step in range(1, 40))])
def test_a_block_that_is_cancelled_at_any_moment_leaves_nothing(delay_s: float) -> None:
    """INV-4, INV-11. The moments cover reserving, starting, ready, and draining."""
    run(lambda: cancelled_after(delay_s), limit_s=3600)


@pool_of(2, nodes=4)
async def test_no_two_members_ever_have_one_id(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    """An id is the name of an actor and of a group, and a dead actor's may still be taken."""
    seen = set(ids(replicas))
    await replicas.scale(0)
    await replicas.scale(2)
    assert seen.isdisjoint(ids(replicas))


class Newer(pool.NodeHost):
    """Be the new code of a roll."""

    def start(self) -> str:
        return "newer"


class NeverReady(pool.NodeHost):
    """Be new code that does not work."""

    def start(self) -> None:
        raise RuntimeError("no such model")


def revisions(replicas: pool.ReplicaPool) -> list[int]:
    return [member.revision for member in replicas.members(serving=True)]


@pool_of(3, nodes=8)
async def test_a_roll_replaces_every_member_and_no_rank_is_ever_without_one(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    """Row R4."""
    least = 3

    def look() -> None:
        nonlocal least
        least = min(least, len(replicas.members(serving=True)))

    end = replicas.on_change(look)
    result = await replicas.change(host=Newer)
    end()
    assert result.is_complete
    assert least == 3
    assert revisions(replicas) == [1, 1, 1]
    assert [host.extra for host in hosts_of(replicas[2])] == ["newer", "newer"]
    assert [report.rung for report in replicas.reports] == ["hook"] * 3


@pool_of(2, nodes=4, surge=0)
async def test_a_roll_without_room_for_more_takes_one_away_first(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    slots = {member.slot for member in replicas.members()}
    assert (await replicas.roll()).is_complete
    assert revisions(replicas) == [1, 1]
    assert {member.slot for member in replicas.members()} == slots


@pool_of(3, nodes=8)
async def test_a_roll_can_be_held_gone_on_with_and_turned_back(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    rolled = await replicas.change(host=Newer, timeout_s=3)
    assert not rolled.is_complete
    replicas.pause_roll()
    await anyio.sleep(60)
    held = revisions(replicas)
    assert sorted(held) != [1, 1, 1]
    assert len(held) == 3
    await anyio.sleep(600)
    assert revisions(replicas) == held, "a roll that is held goes nowhere"
    assert not replicas.is_settled
    replicas.resume_roll()
    await replicas.wait_settled(60)
    assert revisions(replicas) == [1, 1, 1]
    back = await replicas.roll_back()
    assert back.is_complete
    assert revisions(replicas) == [0, 0, 0]


@pool_of(2, nodes=6, restart=pool.RestartPolicy(intensity=2, delay_s=1))
async def test_a_new_revision_that_never_works_is_given_up_and_takes_nobody_with_it(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    before = ids(replicas)
    with pytest.raises(pool.PoolFailed, match="no such model"):
        await replicas.change(host=NeverReady)
    assert [member.id for member in replicas.members(serving=True)] == before
    assert (await replicas.roll_back()).is_complete
    await replicas.wait_settled(60)
    assert ids(replicas) == before


@pool_of(1, nodes=4)
async def test_a_roll_to_what_can_never_be_had_changes_nothing(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    with pytest.raises(pool.InfeasibleError):
        await replicas.change(shape=pool.ReplicaShape(devices=800))
    assert replicas.is_settled


@pool_of(2, nodes=4, host_restart=pool.RestartPolicy(intensity=2, delay_s=1))
async def test_only_the_host_that_died_is_started_again_where_that_is_asked_for(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    """The replica takes no work meanwhile, and then has the new host in its info."""
    before = hosts_of(replicas[1])
    cluster.crash(before[0].actor)
    while replicas[1].state is pool.State.READY:
        await replicas.changed()
    assert replicas[1].state is pool.State.SUSPECT
    await settle(replicas, 30)
    after = hosts_of(replicas[1])
    assert ids(replicas) == ["r/0.1", "r/1.1"]
    assert after[0].actor.id != before[0].actor.id
    assert after[1] == before[1]
    assert not replicas.failures


@pool_of(2, nodes=6, host_restart=pool.RestartPolicy(intensity=2, delay_s=1))
async def test_beyond_its_limits_the_gang_is_replaced_and_at_once_when_its_node_is_lost(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    """INV-6."""
    for _ in range(3):
        cluster.crash(hosts_of(replicas[1])[1].actor)
        await settle(replicas, 60)
    assert ids(replicas) == ["r/0.1", "r/1.2"]
    cluster.lose_node(replicas[0].nodes[1])
    await settle(replicas, 60)
    assert ids(replicas) == ["r/0.2", "r/1.2"]


@pool_of(2, nodes=6)
async def test_while_the_control_is_away_members_live_and_what_fell_is_replaced_when_it_is_back(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    """Fault matrix: the GCS."""
    before = ids(replicas)
    cluster.stop_control(60)
    await anyio.sleep(30)
    assert [member.id for member in replicas.members(serving=True)] == before
    cluster.crash(hosts_of(replicas[1])[0].actor)
    await anyio.sleep(25)
    assert replicas[0].state is pool.State.READY
    assert replicas[1].state is not pool.State.READY, "its polls say so, though no death is told"
    await settle(replicas, 120)
    assert ids(replicas)[0] == before[0]
    assert replicas[1].generation == 2


@pool_of(1, nodes=6)
async def test_a_size_that_is_asked_for_while_the_control_is_away_is_reached_when_it_is_back(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    cluster.stop_control(40)
    begun = anyio.current_time()
    assert (await replicas.scale(3)).is_complete
    assert anyio.current_time() - begun > 40
