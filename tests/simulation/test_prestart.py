"""Processes are started ahead where it is known that they will be asked for, one for each actor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio

import pool
from pool.cluster.interface import Reservation
from pool.testing import SimNode, SimulatedCluster, run

ONE, TWO = pool.ReplicaShape(devices=4), pool.ReplicaShape(devices=8)
GROUP = "a group is made"

Noted = str | tuple[object, ...]
"""That a group is made, or for which nodes a process is started, by id or by the host there."""


class Noting(SimulatedCluster):
    """Note which nodes are told that an actor will start, and when groups are made."""

    def __init__(self) -> None:
        super().__init__([SimNode(gpus=4)] * 4)
        self.noted: list[Noted] = []

    async def reserve(self, *args: Any, **options: Any) -> Reservation:
        self.noted.append(GROUP)
        return await super().reserve(*args, **options)

    async def prestart(self, nodes: Sequence[str]) -> None:
        self.noted.append(tuple(nodes))


def noted(shape: pool.ReplicaShape, **options: Any) -> tuple[list[Noted], list[Noted]]:
    """Return what was noted of a replica's start, and of its next one's on the same nodes.

    Nodes are told by the index of the host that they are for.
    """

    async def main() -> tuple[list[Noted], list[Noted]]:
        cluster = Noting()
        async with pool.ReplicaPool("r", shape=shape, cluster=cluster, **options) as replicas:
            await replicas.scale(1, timeout_s=60)
            first, cluster.noted = cluster.noted, []
            [before] = replicas.members()
            assert before.actor is not None
            cluster.crash(before.actor)
            await anyio.sleep(60)
            [after] = replicas.members(serving=True)
            assert (after.id, after.nodes) == ("r/0.2", before.nodes)
            return _by_host(first, after.nodes), _by_host(cluster.noted, after.nodes)

    return run(main, limit_s=600)


def _by_host(noted: list[Noted], nodes: Sequence[str]) -> list[Noted]:
    return [each if isinstance(each, str) else tuple(map(nodes.index, each)) for each in noted]


def test_hosts_have_theirs_start_beside_their_replicas_own() -> None:
    first, _ = noted(TWO)
    assert first == [GROUP, (0, 1)]


def test_whoever_comes_back_to_its_nodes_has_its_own_start_while_these_are_cleared() -> None:
    assert noted(TWO)[1] == [(0,), GROUP, (0, 1)]
    assert noted(ONE) == ([GROUP], [(0,), GROUP])


def test_a_replica_that_keeps_its_host_has_a_process_more() -> None:
    again = pool.RestartPolicy(intensity=1)
    assert noted(ONE, host_restart=again) == ([GROUP, (0,)], [(0,), GROUP, (0,)])


def test_none_is_started_that_an_environment_of_the_hosts_would_leave_unused() -> None:
    environment = {"env_vars": {"A": "1"}}
    assert noted(ONE, runtime_env=environment) == ([GROUP], [GROUP])
    assert noted(TWO, runtime_env=environment) == ([GROUP], [(0,), GROUP])


def test_who_lives_beside_others_has_them_start_where_these_are() -> None:
    async def main() -> None:
        cluster = Noting()
        train = pool.ReplicaPool("train", shape=TWO, shares=pool.Peers(2), cluster=cluster)
        infer = pool.ColocatedPool("infer", beside=train)
        async with pool.Program(train, infer) as program:
            await program.scale({"train": 1}, timeout_s=60)
            [member] = infer.members(serving=True)
            assert cluster.noted == [GROUP, member.nodes, member.nodes]

    run(main, limit_s=600)
