"""Commands that ask an owner to do something, on a simulated cluster."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import anyio
import pytest

import pool
import pool.cluster.connect
from pool.cli.asking import Asking
from pool.cli.drain import drain_target
from pool.cli.events import show_events
from pool.cli.exits import Exit, Stop
from pool.cli.logs import show_logs
from pool.cli.reap import reap_pools
from pool.cli.roll import roll_pool
from pool.cli.scale import scale_pool
from pool.cli.status import show_status
from pool.cli.voice import Voice
from pool.control.window import look
from pool.testing import SimNode, SimulatedCluster, run
from pool.window.requests import Refused, Verb

SHAPE = pool.ReplicaShape(devices=1)
VOICE = Voice(yes=True, width=100)


def play(main: Callable[[SimulatedCluster, pool.ReplicaPool], Awaitable[None]]) -> None:
    cluster = SimulatedCluster([SimNode(gpus=4)] * 2)

    async def play_it() -> None:
        async with pool.ReplicaPool("a", shape=SHAPE, cluster=cluster) as replicas:
            await replicas.scale(2)
            await anyio.sleep(3)
            await main(cluster, replicas)

    run(play_it)


def test_scale_grows_and_shrinks(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await scale_pool(Asking(cluster, VOICE), "a", 4)
        assert replicas.desired == 4
        await anyio.sleep(3)
        await scale_pool(Asking(cluster, Voice(yes=True, as_json=True)), "a", 1)
        assert replicas.desired == len(replicas.members()) == 1

    play(main)
    told = capsys.readouterr()
    first, second = told.out.splitlines()
    assert first == "pool 'a': 4 of 4 ready"
    assert json.loads(second)["result"]["reached"] == 1
    assert told.err.splitlines() == [
        "pool 'a' has taken it …",
        "Pool 'a' will be scaled from 4 to 1: the others are drained.",
        "pool 'a' has taken it …",
    ]


def test_a_size_that_can_never_be_is_refused_in_the_owners_words() -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        with pytest.raises(Refused, match="can never reach 9 replicas on these nodes, 8 fit"):
            await scale_pool(Asking(cluster, VOICE), "a", 9)
        assert replicas.desired == 2

    play(main)


def test_a_size_that_is_not_reached_in_time_stays_in_force() -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with pool.ReplicaPool("b", shape=SHAPE, cluster=cluster) as other:
            await other.scale(4)
            with pytest.raises(pool.CallTimeout, match="not done within 60 s, and goes on with it"):
                await scale_pool(Asking(cluster, VOICE, timeout_s=60), "a", 5)
            assert replicas.desired == 5
            await scale_pool(Asking(cluster, VOICE), "a", 2)

    play(main)


def test_drain_of_a_slot_refills_its_rank_and_drain_of_a_pool_empties_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        kept = replicas[1].id
        await drain_target(Asking(cluster, VOICE), "a/0")
        await replicas.wait_settled()
        assert (replicas.desired, replicas[1].id) == (2, kept)
        assert replicas[0].slot != 0
        await drain_target(Asking(cluster, VOICE), "a")
        assert replicas.members() == []

    play(main)
    told = capsys.readouterr()
    assert "Slot 0 of pool 'a' (a/0.1, ready) will be drained" in told.err
    assert told.out.splitlines()[0] == "a/0 is drained"
    assert told.out.splitlines()[-1] == "a is drained"


def test_roll_replaces_every_member_and_back_again(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await roll_pool(Asking(cluster, VOICE), "a", Verb.ROLL, {"surge": 0, "max_unavailable": 2})
        assert {member.revision for member in replicas.members()} == {1}
        await roll_pool(Asking(cluster, VOICE), "a", Verb.ROLL_BACK, {})
        assert {member.revision for member in replicas.members()} == {0}
        await roll_pool(Asking(cluster, VOICE, wait=False), "a", Verb.ROLL, {})
        await roll_pool(Asking(cluster, VOICE), "a", Verb.PAUSE_ROLL, {})
        assert replicas.roll_policy is not None
        assert replicas.roll_policy.paused
        await roll_pool(Asking(cluster, VOICE), "a", Verb.RESUME_ROLL, {})
        await replicas.wait_settled()
        with pytest.raises(Refused, match="surge and max_unavailable are both 0"):
            await roll_pool(
                Asking(cluster, VOICE), "a", Verb.ROLL, {"surge": 0, "max_unavailable": 0}
            )

    play(main)
    assert "pool 'a': revision 1, 2 ready" in capsys.readouterr().out


def test_a_pool_of_no_processes_has_no_logs() -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        with pytest.raises(Refused, match="processes are not simulated"):
            await show_logs(cluster, VOICE, "a")
        with pytest.raises(Stop, match="no slot 7"):
            await show_logs(cluster, VOICE, "a/7")

    play(main)


def test_events_are_followed(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        with anyio.move_on_after(30):
            async with anyio.create_task_group() as tasks:
                follow = Voice(width=200)
                tasks.start_soon(lambda: show_events(cluster, follow, "a", last=1, follow=True))
                await anyio.sleep(5)
                await replicas.scale(1)

    play(main)
    lines = capsys.readouterr().out.splitlines()
    assert "member_state" in lines[0]
    assert "pool_scaled  desired=1" in lines[1]
    assert len(lines) == len(set(lines))


def test_following_goes_on_while_the_cluster_is_away_and_ends_with_the_pool(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with (
            anyio.create_task_group() as tasks,
            pool.ReplicaPool("b", shape=SHAPE, cluster=cluster) as other,
        ):
            await other.scale(1)
            await anyio.sleep(3)
            follow = Voice(width=200)
            tasks.start_soon(lambda: show_events(cluster, follow, "b", last=1, follow=True))
            await anyio.sleep(3)
            cluster.stop_control(20)
            await anyio.sleep(30)
            await other.scale(2)
            await anyio.sleep(3)

    play(main)
    told = capsys.readouterr()
    assert "pool_scaled  desired=2" in told.out
    assert told.err.splitlines() == [
        "the simulated cluster's control is away",
        "pool 'b' has ended",
    ]


def test_what_a_dead_driver_left_is_shown_and_steered_and_reaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async def drive(view: SimulatedCluster) -> None:
            options = {"shape": SHAPE, "cluster": view, "detached": True}
            async with pool.ReplicaPool("dead", **options) as other:  # type: ignore[arg-type]
                await other.scale(1)
                await anyio.sleep_forever()

        driver = cluster.drive(drive)
        await anyio.sleep(30)
        cluster.crash(driver)
        await anyio.sleep(10)
        await show_status(cluster, VOICE, "dead")
        monkeypatch.setattr(pool.cluster.connect, "join", lambda address: cluster)
        await scale_pool(Asking(cluster, VOICE), "dead", 2)
        with pytest.raises(pool.CallTimeout, match="the pool was left as it was by then"):
            await scale_pool(Asking(cluster, VOICE, timeout_s=100), "dead", 8)
        await scale_pool(Asking(cluster, VOICE), "dead", 2)
        [view] = await look(cluster, "dead")
        assert view.snapshot is not None
        slot = view.snapshot.slots[0].index
        await drain_target(Asking(cluster, VOICE), f"dead/{slot}")
        await show_status(cluster, VOICE, "dead")
        await anyio.sleep(120)
        await reap_pools(cluster, VOICE, "dead", dry_run=True)
        await reap_pools(cluster, VOICE, "dead")
        with pytest.raises(pool.PoolUnknown):
            await show_status(cluster, VOICE, "dead")
        await reap_pools(cluster, VOICE)
        assert replicas.desired == 2

    play(main)
    told = capsys.readouterr()
    assert "dead  owner gone  1 of 1 ready" in told.out
    assert "pool 'dead': 2 of 2 ready" in told.out
    assert "dead  no owner" in told.out
    assert "would be taken away: " in told.out
    assert "taken away: keeper of dead" in told.out
    assert told.out.endswith("There is nothing to take away.\n")
    assert "This will be taken away" in told.err


def test_what_a_pool_that_was_not_detached_showed_is_reaped_by_name_or_with_the_rest() -> None:
    async def main(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async def drive(view: SimulatedCluster, name: str) -> None:
            async with pool.ReplicaPool(name, shape=SHAPE, cluster=view):
                await anyio.sleep_forever()

        for name in ("b", "c"):
            driver = cluster.drive(lambda view, name=name: drive(view, name))  # type: ignore[misc]
            await anyio.sleep(10)
            cluster.crash(driver)
        with pytest.raises(pool.PoolUnknown):
            await pool.reap("a", cluster=cluster)
        report = await pool.reap("b", cluster=cluster)
        assert [what[:16] for what in report.reaped] == ["window of pool b"]
        report = await pool.reap(dry_run=True, cluster=cluster)
        assert [what[:16] for what in report.reaped] == ["window of pool c"]
        with pytest.raises(Stop, match="it ended with its owner") as refused:
            await scale_pool(Asking(cluster, VOICE), "c", 2)
        assert refused.value.code is Exit.NO_OWNER
        await pool.reap(cluster=cluster)
        assert {key.split(":")[0] for key in await cluster.published("")} == {"pool/1/a"}

    play(main)
