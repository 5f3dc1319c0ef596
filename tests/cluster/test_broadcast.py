"""The same call on every node host, on a real Ray (row E21)."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import anyio
import pytest

import pool
from tests import hosts
from tests.tree import (
    ON_ONE_NODE,
    ON_TWO_NODES,
    QUICK,
    eventually,
    hosts_of,
    is_busy,
    kill,
    until_again,
)
from tests.world import World

pytestmark = pytest.mark.ray

NAMES = [
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
]
JAX_NAMES = ["JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"]
TPU_NAMES = ["TPU_WORKER_ID", "MEGASCALE_SLICE_ID"]


def open_pool(shape: pool.ReplicaShape = ON_TWO_NODES, **options: Any) -> pool.ReplicaPool:
    return pool.ReplicaPool("choir", shape=shape, restart=QUICK, **options)


def test_results_come_by_rank_nested_or_flat_from_functions_and_from_methods(world: World) -> None:
    """Row E21; and what `start` returned stands in each host's info (row E8)."""

    async def main() -> None:
        async with open_pool(host=hosts.Talkative) as replicas:
            await replicas.scale(2, timeout_s=60)
            pids = [[host.pid for host in hosts_of(member)] for member in replicas.members()]
            assert await replicas.broadcast(os.getpid) == pids
            assert await replicas.broadcast(os.getpid, flat=True) == [*pids[0], *pids[1]]
            names = await replicas.broadcast("place", "at ")
            assert names == [
                [f"at choir/{slot}.1/{index}" for index in range(2)] for slot in range(2)
            ]
            # An async method is awaited on the host.
            assert await replicas.broadcast("square", 7) == [[49, 49], [49, 49]]
            extras = [[host.extra for host in hosts_of(member)] for member in replicas.members()]
            assert extras == [[{"index": 0, "hosts": 2}, {"index": 1, "hosts": 2}]] * 2
            with pytest.raises(AttributeError, match="no_such_method"):
                await replicas.broadcast("no_such_method")

    anyio.run(main)


def test_each_replica_is_a_world_of_its_own_or_the_pool_is_one(world: World) -> None:
    """Rows E23, C6, A11; INV-12: a port for each world; the variables go with the call."""

    async def main() -> None:
        async with open_pool() as replicas:
            await replicas.scale(2, timeout_s=60)
            apart = await replicas.broadcast(
                hosts.environment, NAMES, env=pool.rendezvous.torch(scope="replica")
            )
            for member, row in zip(replicas.members(), apart, strict=True):
                assert [one["RANK"] for one in row] == ["0", "1"]
                assert {one["WORLD_SIZE"] for one in row} == {"2"}
                assert {one["LOCAL_RANK"] for one in row} == {"0"}
                assert {one["LOCAL_WORLD_SIZE"] for one in row} == {"1"}
                assert {one["MASTER_ADDR"] for one in row} == {hosts_of(member)[0].address}
                [port] = {one["MASTER_PORT"] for one in row}
                with socket.socket() as probe:  # Leased, and free for who was given it.
                    probe.bind(("", int(port or 0)))
            assert len({row[0]["MASTER_PORT"] for row in apart}) == 2
            whole = await replicas.broadcast(
                hosts.environment, NAMES, env=pool.rendezvous.torch(scope="pool"), flat=True
            )
            assert [one["RANK"] for one in whole] == ["0", "1", "2", "3"]
            assert {one["WORLD_SIZE"] for one in whole} == {"4"}
            assert len({(one["MASTER_ADDR"], one["MASTER_PORT"]) for one in whole}) == 1
            assert [one["GROUP_RANK"] for one in whole] == ["0", "1", "2", "3"]
            assert {one["GROUP_WORLD_SIZE"] for one in whole} == {"4"}
            made = await replicas.broadcast(
                hosts.environment, JAX_NAMES, env=pool.rendezvous.jax(scope="pool"), flat=True
            )
            assert [one["JAX_PROCESS_ID"] for one in made] == ["0", "1", "2", "3"]
            [coordinator] = {one["JAX_COORDINATOR_ADDRESS"] for one in made}
            assert coordinator.startswith(f"{hosts_of(replicas[0])[0].address}:")
            slices = await replicas.broadcast(
                hosts.environment, TPU_NAMES, env=pool.rendezvous.tpu_multislice()
            )
            assert [[one["TPU_WORKER_ID"] for one in row] for row in slices] == [["0", "1"]] * 2
            assert [row[0]["MEGASCALE_SLICE_ID"] for row in slices] == ["0", "1"]
            fixed = await replicas.broadcast(
                hosts.environment, ["MASTER_PORT"], env=pool.rendezvous.torch(port=4321), flat=True
            )
            assert fixed == [{"MASTER_PORT": "4321"}] * 4
            after = await replicas.broadcast(hosts.environment, NAMES, flat=True)
            assert after == [dict.fromkeys(NAMES)] * 4

    anyio.run(main)


def test_what_a_function_raises_arrives_as_itself_with_its_remote_traceback(world: World) -> None:
    """Contract of the cluster interface, 4: errors of the member's own code are not renamed."""

    async def main() -> None:
        async with open_pool(ON_ONE_NODE) as replicas:
            await replicas.scale(1, timeout_s=60)
            with pytest.raises(ValueError, match="broken pipe dream") as caught:
                await replicas.broadcast(hosts.fail, "broken pipe dream")
            [note] = caught.value.__notes__
            assert "choir/0.1" in note
            assert "in fail" in note
            # A time-out of the function's own is not one of ours.
            with pytest.raises(TimeoutError) as raised:
                await replicas.broadcast(hosts.time_out)
            assert not isinstance(raised.value, pool.CallTimeout)
            # One that cannot be unpickled is told in words, and nobody is taken for dead.
            with pytest.raises(Exception, match="Odd") as odd:
                await replicas.broadcast(hosts.fail_oddly)
            assert not isinstance(odd.value, pool.MemberLost)
            # The host is as well as before.
            assert await replicas.broadcast(abs, -3) == [[3]]
            assert replicas[0].generation == 1

    anyio.run(main)


def test_a_broadcast_ends_with_its_time_out_and_the_hosts_stay(world: World) -> None:
    async def main() -> None:
        async with open_pool(ON_ONE_NODE, drain=pool.DrainPolicy(timeout_s=4)) as replicas:
            await replicas.scale(1, timeout_s=60)
            with pytest.raises(TimeoutError):
                await replicas.broadcast(hosts.nap, 2.0, timeout_s=0.3)
            assert await replicas.broadcast(abs, -3) == [[3]]
            assert replicas[0].generation == 1

    anyio.run(main)


def test_a_host_that_dies_under_a_broadcast_ends_it_with_member_lost(world: World) -> None:
    """Row E21: the call is not repeated; the member is replaced all the same."""

    async def main() -> None:
        async with open_pool() as replicas:
            await replicas.scale(1, timeout_s=60)
            pid = hosts_of(replicas[0])[1].pid
            world.watch(*(host.pid for host in hosts_of(replicas[0])))
            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:

                    async def broken() -> None:
                        with pytest.raises(pool.MemberLost) as caught:
                            await replicas.broadcast(hosts.nap, 20.0)
                        assert caught.value.cause == pool.Cause.CRASH
                        assert caught.value.member.startswith("choir/0.1/")

                    tasks.start_soon(broken)
                    await eventually(lambda: is_busy(replicas))
                    kill(pid)
            await until_again(replicas, rank=0, generation=2)

    anyio.run(main)


def test_hosts_that_hold_their_devices_are_their_own_workers(world: World) -> None:
    """One process where there were two: the host sits in its bundle and holds all of it."""

    async def main() -> None:
        async with open_pool(hosts_hold_devices=True) as replicas:
            await replicas.scale(1, timeout_s=60)
            held = await replicas.broadcast(hosts.visible_devices, flat=True)
            assert [len(devices) for devices in held] == [4, 4]
            supervisors = open_pool(ON_ONE_NODE)
            async with supervisors:
                await supervisors.scale(1, timeout_s=60)
                assert await supervisors.broadcast(hosts.visible_devices, flat=True) == [[]]

    anyio.run(main)


def test_a_host_killed_by_a_signal_of_its_own_work_is_a_crash(world: World) -> None:
    async def main() -> None:
        async with open_pool(ON_ONE_NODE) as replicas:
            await replicas.scale(1, timeout_s=60)
            with pytest.raises(pool.MemberLost) as caught:
                await replicas.broadcast(signal.raise_signal, signal.SIGSEGV)
            assert caught.value.cause == pool.Cause.CRASH
            await until_again(replicas, rank=0, generation=2)

    anyio.run(main)
