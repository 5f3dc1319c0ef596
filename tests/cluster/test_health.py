"""Health polls on a real Ray: who is suspect, who is replaced, and who is left alone (row E3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import pool
from pool import EventKind, State
from tests import hosts
from tests.tree import (
    BRIEF,
    HASTY,
    ON_ONE_NODE,
    ON_TWO_NODES,
    QUICK,
    Story,
    hosts_of,
    ids_of,
    until,
)
from tests.world import World

pytestmark = pytest.mark.ray


def open_pool(folder: Path, health: pool.HealthPolicy = HASTY, **options: Any) -> pool.ReplicaPool:
    options = {"shape": ON_ONE_NODE, "restart": QUICK, "drain": BRIEF, **options}
    return pool.ReplicaPool(
        "ward", host=hosts.Switched, host_args=(folder,), health=health, **options
    )


async def checks_of(replicas: pool.ReplicaPool) -> int:
    count: int = (await replicas.broadcast("count_checks", flat=True))[0]
    return count


async def until_checked(replicas: pool.ReplicaPool, times: int) -> None:
    """Wait until the first host was polled so many times more."""
    target = await checks_of(replicas) + times
    with anyio.fail_after(30):
        while await checks_of(replicas) < target:  # noqa: ASYNC110 - the host tells nobody
            await anyio.sleep(0.05)


def test_a_member_whose_host_is_ill_is_suspect_first_and_then_replaced(
    world: World, tmp_path: Path
) -> None:
    """Row E3: one ill host makes its replica suspect, then failed; no other is touched."""

    async def main() -> None:
        async with open_pool(tmp_path, shape=ON_TWO_NODES) as replicas:
            await replicas.scale(2, timeout_s=60)
            other = ids_of(replicas[0])
            world.watch(*(host.pid for host in hosts_of(replicas[1])))
            story = Story(replicas)
            (tmp_path / "ill").write_text("ward/1.1")
            await story.until(EventKind.MEMBER_FAULT)
            await replicas.wait_settled(60)
            [fault] = story.of(EventKind.MEMBER_FAULT)
            assert (fault.slot, fault.facts["cause"]) == (1, pool.Cause.UNHEALTHY)
            assert "the file says ill" in fault.facts["reason"]
            states = story.states(1, 1)
            assert states[0] == "suspect", states
            assert states[-2:] == ["stopping", "gone"]
            assert replicas[1].generation == 2
            assert ids_of(replicas[0]) == other

    anyio.run(main)


def test_a_member_that_recovers_in_time_is_ready_again_and_keeps_its_actors(
    world: World, tmp_path: Path
) -> None:
    """Row E3: only failures in a row count."""

    async def main() -> None:
        patient = pool.HealthPolicy(period_s=0.25, timeout_s=1, failures=1000, grace_s=0)
        async with open_pool(tmp_path, patient) as replicas:
            await replicas.scale(1, timeout_s=60)
            before = ids_of(replicas[0])
            story = Story(replicas)
            (tmp_path / "ill").write_text("all")
            await until(replicas, lambda: replicas[0].state is State.SUSPECT)
            snapshot = replicas.snapshot()
            assert not snapshot.settled
            member = snapshot.slots[0].member
            assert member is not None
            assert "the file says ill" in member.health
            assert not replicas.members(serving=True), "no new work goes to a suspect member"
            (tmp_path / "ill").unlink()
            await replicas.wait_settled(30)
            assert ids_of(replicas[0]) == before
            assert story.states(0, 1) == ["suspect", "ready"]
            assert not story.of(EventKind.MEMBER_FAULT)

    anyio.run(main)


def test_a_health_check_that_hangs_times_out_and_fails_after_n_failures(
    world: World, tmp_path: Path
) -> None:
    """Fault matrix: a hang in the health check."""

    async def main() -> None:
        policy = pool.HealthPolicy(period_s=0.25, timeout_s=0.5, failures=2, grace_s=0)
        async with open_pool(tmp_path, policy) as replicas:
            await replicas.scale(1, timeout_s=60)
            world.watch(*(host.pid for host in hosts_of(replicas[0])))
            story = Story(replicas)
            (tmp_path / "stuck").write_text("ward/0.1")
            await story.until(EventKind.MEMBER_FAULT)
            await replicas.wait_settled(60)
            [fault] = story.of(EventKind.MEMBER_FAULT)
            assert fault.facts["cause"] == pool.Cause.UNHEALTHY
            assert "suspect" in story.states(0, 1)
            assert replicas[0].generation == 2

    anyio.run(main)


@pytest.mark.parametrize("work", [hosts.nap, hosts.block_the_loop])
def test_a_busy_host_still_answers_its_polls(world: World, tmp_path: Path, work: Any) -> None:
    """Health has a concurrency group of its own; neither a thread nor a blocked loop stops it."""

    async def main() -> None:
        policy = pool.HealthPolicy(period_s=0.25, timeout_s=1, failures=2, grace_s=0)
        async with open_pool(tmp_path, policy) as replicas:
            await replicas.scale(1, timeout_s=60)
            before = ids_of(replicas[0])
            checked = await checks_of(replicas)
            story = Story(replicas)
            await replicas.broadcast(work, 3.0, timeout_s=60)
            assert await checks_of(replicas) >= checked + 4
            assert not story.of(EventKind.MEMBER_STATE)
            assert ids_of(replicas[0]) == before

    anyio.run(main)


def test_a_blocked_driver_takes_no_member_for_ill(world: World, tmp_path: Path) -> None:
    """INV-9: a loop that ran late has not listened, and changes no verdict."""

    async def main() -> None:
        policy = pool.HealthPolicy(period_s=0.25, timeout_s=0.5, failures=1, grace_s=0)
        async with open_pool(tmp_path, policy) as replicas:
            await replicas.scale(1, timeout_s=60)
            story = Story(replicas)
            for _ in range(2):
                await until_checked(replicas, 1)
                hosts.nap(1.5)
            await until_checked(replicas, 3)
            assert not story.of(EventKind.MEMBER_STATE)
            assert replicas[0].generation == 1

    anyio.run(main)


def test_failures_in_the_start_up_grace_are_not_counted(world: World, tmp_path: Path) -> None:
    """Row E3: a member that just got ready may be busy loading."""

    async def main() -> None:
        policy = pool.HealthPolicy(period_s=0.25, timeout_s=1, failures=1, grace_s=600)
        (tmp_path / "ill").write_text("all")
        async with open_pool(tmp_path, policy) as replicas:
            await replicas.scale(1, timeout_s=60)
            story = Story(replicas)
            await until_checked(replicas, 5)
            assert not story.of(EventKind.MEMBER_STATE)
            assert [member.generation for member in replicas.members(serving=True)] == [1]

    anyio.run(main)
