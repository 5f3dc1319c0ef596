"""Death on a real Ray: how fast it is known, what is reaped, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

import pool
from pool import EventKind
from tests.tree import (
    ON_ONE_NODE,
    ON_TWO_NODES,
    QUICK,
    Story,
    eventually,
    hosts_of,
    ids_of,
    kill,
    pid_of,
)
from tests.world import World

pytestmark = pytest.mark.ray

KNOWN_WITHIN_S = 2.0
"""Generous: it takes about ten milliseconds when the two cores are not busy."""


def test_a_killed_replica_actor_is_known_at_once_and_its_whole_gang_is_reaped(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """Fault matrix: `kill -9` of the replica's actor; no host of the gang outlives it (INV-4)."""

    async def main() -> None:
        async with pool.ReplicaPool("lifeline", shape=ON_TWO_NODES, restart=QUICK) as replicas:
            await replicas.scale(1, timeout_s=60)
            before = replicas[0]
            story = Story(replicas)
            root = pid_of(before.actor)
            world.watch(root, *(host.pid for host in hosts_of(before)))
            killed = kill(root)
            took_s = await story.until(EventKind.MEMBER_FAULT) - killed
            record_property("fault_known_s", took_s)
            print(f"known after {took_s * 1000:.0f} ms")
            assert took_s < KNOWN_WITHIN_S
            assert story.of(EventKind.MEMBER_FAULT)[0].facts["cause"] == pool.Cause.CRASH
            await replicas.wait_settled(60)
            assert replicas[0].generation == 2
            assert not ids_of(replicas[0]) & ids_of(before)
            await eventually(lambda: not ids_of(before) & set(world.actors()), 10)

    anyio.run(main)


def test_a_killed_host_is_known_at_once_and_the_slot_is_filled_after_its_back_off(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """The events come in the order of the story, and the back-off is waited for."""

    async def main() -> None:
        policy = pool.RestartPolicy(delay_s=1.0, jitter=0)
        async with pool.ReplicaPool("lifeline", shape=ON_TWO_NODES, restart=policy) as replicas:
            await replicas.scale(1, timeout_s=60)
            before = replicas[0]
            story = Story(replicas)
            # The other host's process must go as well.
            world.watch(*(host.pid for host in hosts_of(before)))
            killed = kill(hosts_of(before)[1].pid)
            took_s = await story.until(EventKind.MEMBER_FAULT) - killed
            record_property("fault_known_s", took_s)
            print(f"known after {took_s * 1000:.0f} ms")
            assert took_s < KNOWN_WITHIN_S
            await replicas.wait_settled(60)
            fault = story.of(EventKind.MEMBER_FAULT, 0)
            planned = story.of(EventKind.RESTART_PLANNED, 0)
            assert [(event.generation, event.facts["cause"]) for event in fault] == [
                (1, pool.Cause.CRASH)
            ]
            assert "host 1" in fault[0].facts["reason"]
            assert [event.facts["in_s"] for event in planned] == [pytest.approx(1.0, abs=0.01)]
            assert story.states(0, 1) == ["stopping", "gone"]
            assert story.states(0, 2) == ["pending", "starting", "ready"]
            kinds = [event.kind for _, event in story.heard]
            assert kinds.index(EventKind.MEMBER_FAULT) < kinds.index(EventKind.RESTART_PLANNED)
            again = next(event for _, event in story.heard if event.generation == 2)
            assert again.at - fault[0].at >= 0.99

    anyio.run(main)


def test_a_pool_whose_restart_intensity_is_exceeded_fails_with_the_cause_and_spares_the_others(
    world: World,
) -> None:
    """INV-6: beyond the intensity the level above decides; `scale` then starts afresh."""

    async def main() -> None:
        policy = pool.RestartPolicy(intensity=1, delay_s=0.05, jitter=0)
        async with pool.ReplicaPool("intense", shape=ON_ONE_NODE, restart=policy) as replicas:
            await replicas.scale(2, timeout_s=60)
            other = ids_of(replicas[0])
            kill(hosts_of(replicas[1])[0].pid)
            story = Story(replicas)
            await story.until(EventKind.MEMBER_FAULT)
            await replicas.wait_settled(60)
            assert replicas.failed is None
            kill(hosts_of(replicas[1])[0].pid)
            await story.until(EventKind.POOL_FAILED)
            with pytest.raises(pool.PoolFailed, match="crash") as caught:
                await replicas.wait_settled(60)
            assert "1 restart(s)" in caught.value.cause
            assert "worker process has died" in caught.value.detail
            assert ids_of(replicas[0]) == other
            assert await replicas.broadcast(int, flat=True) == [0]
            snapshot = replicas.snapshot()
            assert snapshot.failed is not None
            assert not snapshot.settled
            assert "given up" in snapshot.slots[1].reason or "crash" in snapshot.slots[1].reason
            result = await replicas.scale(2, timeout_s=60)
            assert result.is_complete
            assert replicas.failed is None
            assert ids_of(replicas[0]) == other

    anyio.run(main)


def test_both_members_that_die_at_once_are_both_replaced(world: World) -> None:
    """Two faults in one moment are two faults, and no slot waits for the other."""

    async def main() -> None:
        async with pool.ReplicaPool("lifeline", shape=ON_ONE_NODE, restart=QUICK) as replicas:
            await replicas.scale(2, timeout_s=60)
            pids = [hosts_of(member)[0].pid for member in replicas.members()]
            world.watch(*pids)
            story = Story(replicas)
            for pid in pids:
                kill(pid)
            await story.until(EventKind.MEMBER_FAULT, n=2)
            await replicas.wait_settled(60)
            assert [member.generation for member in replicas.members()] == [2, 2]
            assert replicas.snapshot().restarts == {"crash": 2}

    anyio.run(main)
