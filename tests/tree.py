"""What tests of pools on a real Ray share: shapes, quick policies, and views of a pool."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
from ray.util.placement_group import placement_group, remove_placement_group

import pool
from pool.cluster.ray import private
from pool.process import pids

ON_ONE_NODE = pool.ReplicaShape(devices=2)
ON_TWO_NODES = pool.ReplicaShape(devices=8)
QUICK = pool.RestartPolicy(delay_s=0.05, jitter=0)
HASTY = pool.HealthPolicy(period_s=0.25, timeout_s=1, failures=3, grace_s=0)
BRIEF = pool.DrainPolicy(timeout_s=8)


def hosts_of(member: pool.Member[pool.ReplicaInfo]) -> tuple[pool.HostInfo, ...]:
    """Return the node hosts of a replica that is ready."""
    assert member.info is not None, f"{member.id} is {member.state} and tells nothing of itself"
    return member.info.hosts


def ids_of(member: pool.Member[pool.ReplicaInfo]) -> set[str]:
    """Return the ids of all actors of a replica."""
    assert member.actor is not None
    return {member.actor.id, *(host.actor.id for host in hosts_of(member))}


def pid_of(actor: pool.Actor | None) -> int:
    """Return the process id of an actor, as Ray's own table has it."""
    assert actor is not None
    return int(private.actor_table()[actor.id]["Pid"])


def kill(pid: int) -> float:
    """Send SIGKILL to a process, and return when, on the monotonic clock."""
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def is_gone(pid: int) -> bool:
    """Return whether nobody has this pid; a zombie counts as nobody."""
    return pids.of(pid) is None


class Story:
    """Write down what a pool says, and when it was heard."""

    def __init__(self, replicas: pool.ResourcePoolManager[Any]) -> None:
        self.heard: list[tuple[float, pool.Event]] = []
        self._pool = replicas
        replicas.follow(lambda event: self.heard.append((time.monotonic(), event)))

    def of(self, kind: pool.EventKind, slot: int | None = None) -> list[pool.Event]:
        """Return the events of a kind, of one slot or of any."""
        return [
            event
            for _, event in self.heard
            if event.kind is kind and (slot is None or event.slot == slot)
        ]

    def states(self, slot: int, generation: int) -> list[str]:
        """Return the states that an incarnation entered, in order."""
        return [
            event.facts["state"]
            for event in self.of(pool.EventKind.MEMBER_STATE, slot)
            if event.generation == generation
        ]

    async def until(self, kind: pool.EventKind, slot: int | None = None, n: int = 1) -> float:
        """Wait for the n-th event of a kind, and return when it was heard."""
        await until(self._pool, lambda: len(self.of(kind, slot)) >= n, 30)
        matching = [at for at, event in self.heard if event in self.of(kind, slot)]
        return matching[n - 1]


async def until(
    replicas: pool.ResourcePoolManager[Any], condition: Callable[[], bool], timeout_s: float = 30
) -> None:
    """Wait until something holds that changes with the pool."""
    try:
        with anyio.fail_after(timeout_s):
            while not condition():
                await replicas.changed()
    except TimeoutError:
        raise AssertionError(
            f"not within {timeout_s} s; the pool is {replicas.snapshot()}"
        ) from None


async def eventually(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    """Wait until something holds of which nobody tells."""
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.02)


def is_busy(replicas: pool.ReplicaPool) -> bool:
    """Return whether a call is under way on any member."""
    return any(slot.member and slot.member.in_flight for slot in replicas.snapshot().slots)


async def until_again(
    replicas: pool.ReplicaPool, rank: int, generation: int, timeout_s: float = 60
) -> None:
    """Wait until a rank is held by a given incarnation of its slot, and the pool has settled."""

    def is_there() -> bool:
        return any(
            (member.rank, member.generation) == (rank, generation)
            for member in replicas.members(serving=True)
        )

    await until(replicas, is_there, timeout_s)
    await replicas.wait_settled(timeout_s)


@contextlib.contextmanager
def every_gpu_taken(nodes: int = 6, gpus: int = 4) -> Iterator[None]:
    """Hold all GPUs of the tests' cluster, so that a pool has to wait for its reservation."""
    bundles = [{"GPU": float(gpus)}] * nodes
    group = placement_group(bundles, strategy="STRICT_SPREAD", name="somebody else")
    assert group.wait(30)
    try:
        yield
    finally:
        remove_placement_group(group)
