"""Row C10: no process survives what it belongs to, whoever was killed, and however it tries to.

The trees ignore SIGTERM; some of each are in sessions of their own, and some have no parent.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from ray.util import get_placement_group, remove_placement_group

import pool
from pool.cluster.ray import private
from pool.host.ports import PortLeases, PortRange
from pool.process import pids
from pool.process.pids import ProcessId
from tests.chaos import planted
from tests.chaos.planted import GRACE_S, GROWN_S, PLANTED, SERVED, TRAINED, TREE
from tests.process.support import alive, parts
from tests.tree import (
    BRIEF,
    Story,
    eventually,
    every_gpu_taken,
    hosts_of,
    is_gone,
    kill,
    until_again,
)
from tests.world import World

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LEASE_S = 4.0
SOON_S = 20.0
"""What is not waited for takes far less; the machine may be busy."""

Family = dict[str, ProcessId]


async def grown(folder: Path, names: tuple[str, ...] = TREE) -> Family:
    """Wait for a tree, and return who is in it."""
    return await anyio.to_thread.run_sync(parts, folder, names, GROWN_S)


async def gone(family: Family, limit_s: float = GRACE_S + SOON_S) -> None:
    """Wait until nobody of a tree lives."""
    ends_at = time.monotonic() + limit_s
    while left := alive(family):
        assert time.monotonic() < ends_at, f"alive after {limit_s} s: {left} of {family}"
        await anyio.sleep(0.02)


def is_free(port: int) -> bool:
    """Return whether a port can be leased by somebody else now."""
    leases = PortLeases(PortRange(port, port))
    try:
        leases.lease()
    except pool.PoolError:
        return False
    finally:
        leases.close()
    return True


def pid_of_level(world: World, level: str) -> int:
    """Return the process of the only actor of a level."""
    table = private.actor_table()
    [pid] = [
        int(table[actor_id]["Pid"])
        for actor_id, name in world.actors().items()
        if f":{level}:" in name
    ]
    return pid


# --- managed processes ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """Where a tree stands, for whoever is to bring it down."""

    world: World
    replicas: pool.ReplicaPool
    host: pool.Host
    process: pool.ManagedProcess


Strike = Callable[[Scene], Awaitable[None]]


async def stop_it(scene: Scene) -> None:
    report = await scene.process.stop()
    assert (report.rung, report.exit.signal) == ("killed", 9)
    assert report.killed >= len(TREE)


async def kill_the_host_actor(scene: Scene) -> None:
    scene.replicas.cluster.kill(scene.host.info.actor)


async def kill_the_host_process(scene: Scene) -> None:
    kill(scene.host.info.pid)


async def kill_who_holds_the_devices(scene: Scene) -> None:
    kill(pid_of_level(scene.world, "holder"))


async def remove_the_group(scene: Scene) -> None:
    [name] = scene.world.groups().values()
    remove_placement_group(get_placement_group(name))


async def scale_to_nothing(scene: Scene) -> None:
    await scene.replicas.scale(0, timeout_s=60)


async def leave_the_block(scene: Scene) -> None:
    pass


REPLACED: dict[Strike, str] = {
    kill_the_host_actor: "killed by `ray.kill`",
    kill_the_host_process: "worker process has died",
    kill_who_holds_the_devices: "held the devices of process 'tree'",
    remove_the_group: "placement group was removed",
}
"""What costs the replica, and what is then said of it."""


@pytest.mark.parametrize("strike", [stop_it, *REPLACED, scale_to_nothing, leave_the_block])
def test_nothing_of_a_managed_process_survives(
    world: World, tmp_path: Path, strike: Strike
) -> None:
    async def main() -> tuple[Family, int]:
        async with planted.make(SERVED) as replicas:
            await replicas.scale(1, timeout_s=GROWN_S)
            story = Story(replicas)
            [[host]] = replicas.hosts()
            process = await host.start_process(planted.process(tmp_path / "tree"))
            family, port = await grown(tmp_path / "tree"), process.ports["api"]
            assert not is_free(port)
            world.watch(host.info.pid)
            await strike(Scene(world, replicas, host, process))
            if strike is not leave_the_block:
                await gone(family)
                assert is_free(port)
            if strike in REPLACED:
                await until_again(replicas, 0, 2)
                [fault] = story.of(pool.EventKind.MEMBER_FAULT)
                assert REPLACED[strike] in fault.facts["reason"]
            return family, port

    family, port = anyio.run(main)
    assert not alive(family)
    assert is_free(port)


@pytest.mark.parametrize("graceful", [True, False], ids=["raylet ends", "raylet is killed"])
def test_nothing_survives_the_raylet(world: World, tmp_path: Path, graceful: bool) -> None:
    """The node is added for this alone, and is the only one with room."""
    cluster = world.cluster.cluster
    nodes: list[Any] = []

    async def main() -> None:
        async with planted.make(SERVED, shape=pool.ReplicaShape(devices=4)) as replicas:
            with every_gpu_taken():
                nodes.append(cluster.add_node(num_cpus=8, num_gpus=4))
                await replicas.scale(1, timeout_s=GROWN_S)
            [[host]] = replicas.hosts()
            assert host.info.node_id == nodes[0].node_id
            world.watch(*(each.pid for each in hosts_of(replicas[0])))
            process = await host.start_process(planted.process(tmp_path / "tree"))
            options = pool.RunOptions(devices=1)
            run = host.begin_run(planted.plant_and_stay, tmp_path / "run", options=options)
            trees = [await grown(tmp_path / "tree"), await grown(tmp_path / "run", PLANTED)]
            await anyio.to_thread.run_sync(cluster.remove_node, nodes.pop(), graceful)
            for family in trees:
                await gone(family)
            assert is_free(process.ports["api"])
            with pytest.raises(pool.MemberLost):
                await run.result()

    try:
        anyio.run(main)
    finally:
        for node in nodes:
            cluster.remove_node(node)


# --- what the user's code starts in workers -------------------------------------------------------


async def kill_the_worker(scene: tuple[pool.ReplicaPool, Family]) -> None:
    kill(scene[1]["worker"].pid)


async def kill_its_host(scene: tuple[pool.ReplicaPool, Family]) -> None:
    kill(hosts_of(scene[0][0])[0].pid)


async def scale_it_away(scene: tuple[pool.ReplicaPool, Family]) -> None:
    await scene[0].scale(0, timeout_s=60)


WorkerStrike = Callable[[tuple[pool.ReplicaPool, Family]], Awaitable[None]]


@pytest.mark.parametrize("strike", [kill_the_worker, kill_its_host, scale_it_away])
def test_nothing_that_a_rank_actor_started_survives_it(
    world: World, tmp_path: Path, strike: WorkerStrike
) -> None:
    async def main() -> None:
        folder = tmp_path / "rank"
        policy = pool.RestartPolicy(intensity=0)
        async with planted.make_trained(folder, restart=policy) as replicas:
            await replicas.scale(1, timeout_s=GROWN_S)
            family = await grown(folder, PLANTED)
            await strike((replicas, family))
            await gone(family)

    anyio.run(main)


async def cancel_the_call(scene: tuple[pool.ReplicaPool, Family]) -> None:
    pass


@pytest.mark.parametrize("strike", [kill_the_worker, kill_its_host, scale_it_away, cancel_the_call])
def test_nothing_that_a_run_started_survives_it(
    world: World, tmp_path: Path, strike: WorkerStrike
) -> None:
    async def main() -> None:
        errors: list[BaseException] = []

        async def work() -> None:
            try:
                await replicas.run(planted.plant_and_stay, tmp_path / "run")
            except BaseException as error:
                errors.append(error)
                if not isinstance(error, Exception):
                    raise

        async with planted.make(SERVED) as replicas:
            await replicas.scale(1, timeout_s=GROWN_S)
            family: Family = {}
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                family |= await grown(tmp_path / "run", PLANTED)
                if strike is cancel_the_call:
                    tasks.cancel_scope.cancel()
                await strike((replicas, family))
            await gone(family)
            [error] = errors
            lost = (pool.MemberLost, pool.RunCancelled)
            assert isinstance(error, lost) or strike is cancel_the_call, error

    anyio.run(main)


def plant_and_wait(folder: Path) -> None:
    planted.plant(folder)
    parts(folder, PLANTED, GROWN_S)


def test_what_a_run_leaves_behind_when_it_returns_is_removed(world: World, tmp_path: Path) -> None:
    async def main() -> None:
        async with planted.make(SERVED) as replicas:
            await replicas.scale(1, timeout_s=GROWN_S)
            [[host]] = replicas.hosts()
            await host.run(plant_and_wait, tmp_path / "run")
            for name in PLANTED:
                pid = int((tmp_path / "run" / name).read_text())
                await eventually(functools.partial(is_gone, pid), SOON_S)

    anyio.run(main)


# --- owners ---------------------------------------------------------------------------------------


@contextmanager
def driver(world: World, folder: Path, **options: Any) -> Iterator[tuple[int, int]]:
    """Start a driver that plants trees; give its pid, and the port of its process."""
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.chaos.planted"),
                *(world.cluster.address, str(folder), json.dumps(options)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "stderr").read_text()
        yield process.pid, json.loads(line)["port"]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["its own", "kept for a second", "reaped"])
def test_nothing_survives_the_last_owner_of_a_pool(world: World, tmp_path: Path, how: str) -> None:
    """A driver is killed: its pool goes at once, or a detached one with its leases, or reaped."""
    options: dict[str, Any] = {"lease_s": LEASE_S} if how == "its own" else {}
    if how == "kept for a second":
        options = {"lease_s": LEASE_S, "detached": True, "keep_s": 1.0}
    elif how == "reaped":
        options = {"detached": True}
    with driver(world, tmp_path, **options) as (pid, port):
        os.kill(pid, 9)

    async def main() -> None:
        killed_at = time.monotonic()
        family: Family = {}
        for name, names in (("process", TREE), ("run", PLANTED), ("rank", PLANTED)):
            family |= {
                f"{part} of the {name}": ProcessId(int((tmp_path / name / part).read_text()), 0)
                for part in names
            }
        if how == "reaped":
            for name in (SERVED, TRAINED):
                await pool.reap(name)
        limit_s = SOON_S + (0 if how == "reaped" else 1 + LEASE_S + BRIEF.timeout_s)
        ends_at = time.monotonic() + limit_s
        while left := [part for part, its in family.items() if pids.of(its.pid) is not None]:
            assert time.monotonic() < ends_at, f"alive after {limit_s} s: {left}"
            await anyio.sleep(0.05)
        print(f"gone after {time.monotonic() - killed_at:.1f} s")
        assert is_free(port)

    anyio.run(main)
