"""Hot spares and gangs that mend themselves, on a real Ray (row N11)."""

from __future__ import annotations

import os
import time

import anyio
import pytest

import pool
from tests.tree import BRIEF, HASTY, ON_ONE_NODE, ON_TWO_NODES, QUICK, Story, hosts_of, kill, until
from tests.world import World

pytestmark = pytest.mark.ray


def test_a_spare_takes_the_rank_of_a_killed_member_at_once_and_work_follows(world: World) -> None:
    async def main() -> None:
        async with pool.ReplicaPool(
            "spared", shape=ON_ONE_NODE, spares=1, health=HASTY, restart=QUICK, drain=BRIEF
        ) as replicas:
            result = await replicas.scale(2, timeout_s=60)
            assert result.reached == 2, "a spare is no capacity"
            await replicas.wait_settled(60)
            [spare] = [member for member in replicas.members() if member.rank is None]
            lost = replicas[0]
            story = Story(replicas)
            killed_at = kill(hosts_of(lost)[0].pid)
            ranked_at = await story.until(pool.EventKind.SLOT_RANKED)
            took_s = ranked_at - killed_at
            print(f"promoted {took_s * 1000:.0f} ms after the kill")
            assert replicas[0].id == spare.id
            assert replicas[0].term > lost.term
            pids = [[host.pid for host in hosts_of(replicas[rank])] for rank in (0, 1)]
            assert await replicas.broadcast(os.getpid) == pids
            # The slot of the lost one is filled again, behind the work, as the new spare.
            await replicas.wait_settled(60)
            [again] = [member for member in replicas.members() if member.rank is None]
            assert (again.slot, again.generation) == (lost.slot, 2)
            assert replicas.snapshot().spares_ready == 1

    anyio.run(main)


def test_only_the_host_that_died_is_started_again_where_that_is_asked_for(world: World) -> None:
    async def main() -> None:
        async with pool.ReplicaPool(
            "mended",
            shape=ON_TWO_NODES,
            health=HASTY,
            restart=QUICK,
            host_restart=pool.RestartPolicy(intensity=1, delay_s=0.05),
            drain=BRIEF,
        ) as replicas:
            await replicas.scale(1, timeout_s=60)
            before = hosts_of(replicas[0])
            kill(before[1].pid)
            await until(replicas, lambda: replicas[0].state is pool.State.SUSPECT)
            suspect = replicas.snapshot().slots[0].member
            assert suspect is not None
            assert "host 1" in suspect.health
            await until(replicas, lambda: replicas[0].state is pool.State.READY)
            after = hosts_of(replicas[0])
            assert replicas[0].id == "mended/0.1"
            assert after[0] == before[0]
            assert after[1].pid != before[1].pid
            assert await replicas.broadcast(os.getpid, flat=True) == [host.pid for host in after]
            # Once more is more than its limit: then the gang is replaced.
            kill(after[1].pid)
            await until(replicas, lambda: [m.generation for m in replicas.members()] == [2])
            await replicas.wait_settled(60)

    anyio.run(main)


def test_a_script_without_asyncio_rolls_leaves_and_goes_on(world: World) -> None:
    """Row R5, in the blocking form."""
    with pool.blocking.ReplicaPool(
        "scripted", shape=ON_ONE_NODE, health=HASTY, drain=BRIEF, detached=True
    ) as replicas:
        replicas.scale(1, timeout_s=60)
        assert replicas.roll().is_complete
        [member] = replicas.members()
        replicas.detach()
    [listed] = pool.blocking.list_pools()
    assert (listed.name, listed.owner) == ("scripted", None)
    began = time.monotonic()
    with pool.blocking.attach("scripted") as replicas:
        replicas.wait_settled(30)
        assert [each.id for each in replicas.members()] == [member.id]
        replicas.detach()
    print(f"attached and detached in {time.monotonic() - began:.2f} s")
    assert len(pool.blocking.reap("scripted").reaped) >= 3
