"""Detached pools on a real Ray: owners leave, die, hang and fight, and the pool is as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import ray

import pool
from pool.cluster.ray import private
from pool.ownership.keeper import LEVEL
from tests import hosts
from tests.chaos.controller import Controller
from tests.chaos.owner import LEASE_S, NAME, make
from tests.tree import BRIEF, eventually, hosts_of, kill, pid_of, until_again
from tests.world import World

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]


@contextmanager
def owner(world: World, plan: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Start an owner, and give it, with what it told of its pool, once that is up."""
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.owner", world.cluster.address, plan],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    try:
        told = listen(process, folder)
        world.watch(*told["pids"])
        yield process, told
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def listen(process: subprocess.Popen[str], folder: Path) -> Any:
    """Return the next thing that an owner says."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise AssertionError((folder / "stderr").read_text())


def test_a_pool_that_its_driver_left_is_gone_on_with_by_another(
    world: World, tmp_path: Path
) -> None:
    """Rows R5, C11: same slots, same members, nothing restarted."""
    with owner(world, "leave", tmp_path) as (process, told):
        assert listen(process, tmp_path) == {"done": True}
        assert process.wait(30) == 0

    async def main() -> None:
        # Longer than the lease: the keeper keeps the members alive.
        await anyio.sleep(LEASE_S + 2)
        [listed] = await pool.list_pools()
        assert (listed.name, listed.owner, listed.desired) == (NAME, None, 2)
        async with pool.attach(NAME) as replicas:
            await replicas.wait_settled(30)
            ids = [member.id for member in replicas.members()]
            assert ids == told["ids"]
            actors = [member.actor.id for member in replicas.members() if member.actor]
            assert actors == told["actors"]
            pids = [host.pid for member in replicas.members() for host in hosts_of(member)]
            assert pids == told["pids"]
            assert await replicas.broadcast(os.getpid, flat=True) == pids
            await replicas.scale(3, timeout_s=60)

    anyio.run(main)


def test_a_killed_owners_pool_lives_and_what_fell_meanwhile_is_replaced(
    world: World, tmp_path: Path
) -> None:
    """Fault matrix: kill -9 of a driver whose pool is detached; then of a replica actor."""
    with owner(world, "hold", tmp_path) as (process, told):
        process.kill()
        process.wait(30)

    async def main() -> None:
        [listed] = await pool.list_pools()
        assert len(listed.members) == 2
        async with pool.attach(NAME) as replicas:
            await replicas.wait_settled(30)
            assert [member.id for member in replicas.members()] == told["ids"]
            pid = pid_of(replicas[1].actor)
            await replicas.detach()
        kill(pid)
        await eventually(lambda: told["actors"][1] not in world.actors())
        async with pool.attach(NAME) as replicas:
            await until_again(replicas, 1, 2)
            ids = [member.id for member in replicas.members()]
            assert ids == [told["ids"][0], f"{NAME}/1.2"]

    anyio.run(main)


def test_two_drivers_fight_for_one_pool_and_the_later_one_wins(
    world: World, tmp_path: Path
) -> None:
    """Fault matrix: two drivers scaling one pool; two pools of the same name. INV-10."""
    with owner(world, "held", tmp_path) as (process, told):

        async def main() -> None:
            with pytest.raises(pool.PoolExists):
                async with make():
                    pass
            with pytest.raises(pool.PoolHeld, match="driver"):
                async with pool.attach(NAME):
                    pass
            async with pool.attach(NAME, takeover=True) as replicas:
                fenced = await anyio.to_thread.run_sync(listen, process, tmp_path)
                assert "obeys owner 2" in fenced["fenced"]
                await replicas.wait_settled(30)
                assert [member.id for member in replicas.members()] == told["ids"]
                # The first driver ends its block; the pool is not its to drain.
                assert await anyio.to_thread.run_sync(process.wait, 30) == 0
                assert await replicas.broadcast(os.getpid, flat=True) == told["pids"]

        anyio.run(main)


def test_a_driver_that_hangs_loses_its_members_to_their_leases(
    world: World, tmp_path: Path
) -> None:
    """Row N4. It lives, so that Ray removes nothing; its members end themselves."""
    with owner(world, "owned", tmp_path) as (process, _):
        process.send_signal(signal.SIGSTOP)

        async def main() -> None:
            await eventually(lambda: not of_the_pool(world), LEASE_S + 30)
            await eventually(lambda: not world.groups(), 30)

        anyio.run(main)
        world.check_nothing_is_left()


def test_a_keeper_that_dies_is_made_anew_while_there_is_an_owner_and_else_ends_the_pool(
    world: World,
) -> None:
    """Fault matrix: the detached controller. INV-4: within lease and grace nothing is left."""

    async def main() -> None:
        async with make() as replicas:
            await replicas.scale(1, timeout_s=60)
            world.watch(*(host.pid for host in hosts_of(replicas[0])))
            first = keeper_pid(world)
            kill(first)
            await eventually(lambda: keeper_pid(world) not in (0, first))
            await until_owned()
            assert replicas.is_settled
            await replicas.detach()
        kill(keeper_pid(world))
        await eventually(lambda: not world.actors(), LEASE_S + 30)
        await eventually(lambda: not world.groups(), 30)

    anyio.run(main)


def test_a_pool_that_nobody_comes_for_is_gone_when_its_time_to_be_kept_is_over(
    world: World,
) -> None:
    """INV-4: after `keep_s`, the lease and the members' grace nothing of it is left."""
    keep_s = 1.0

    async def main() -> None:
        async with make(keep_s=keep_s) as replicas:
            await replicas.scale(1, timeout_s=60)
            world.watch(*(host.pid for host in hosts_of(replicas[0])))
            await replicas.detach()
        [listed] = await pool.list_pools()
        assert (listed.name, listed.owner) == (NAME, None)
        gone_s = keep_s + LEASE_S + BRIEF.timeout_s
        await eventually(lambda: not world.actors(), gone_s + 30)
        await eventually(lambda: not world.groups())
        assert not await pool.list_pools()

    anyio.run(main)


def test_a_detached_pool_that_cannot_be_left_to_anybody_is_refused_before_it_begins(
    world: World,
) -> None:
    """A lock cannot be pickled for the next owner."""
    before = set(private.actor_table())

    async def main() -> None:
        with pytest.raises(pool.ConfigError, match="cannot be pickled for its next owner"):
            async with make(host=hosts.Given, host_args=(threading.Lock(),)):
                pass

    anyio.run(main)
    assert set(private.actor_table()) == before, "an actor was made, be it a dead one by now"
    assert not world.groups()


def of_the_pool(world: World) -> list[str]:
    """Return the names of the pool's actors, its hosts excepted."""
    return [name for name in world.actors().values() if name.startswith(f"pool:{NAME}:")]


async def until_owned() -> None:
    """Wait until the keeper of the only pool has heard of the owner."""
    with anyio.fail_after(30):
        while [each.owner for each in await pool.list_pools()] == [None]:  # noqa: ASYNC110
            await anyio.sleep(0.05)


def keeper_pid(world: World) -> int:
    pids = [
        pid_of(pool.Actor(actor_id, pool.Identity(pool="", instance="", slot=0, generation=0)))
        for actor_id, name in world.actors().items()
        if f":{LEVEL}:" in name
    ]
    return pids[0] if pids else 0


@pytest.mark.parametrize("detached", [False, True], ids=["its own", "detached"])
def test_a_controller_that_is_killed_leaves_nothing_or_what_was_to_outlive_it(
    world: World, detached: bool
) -> None:
    """Fault matrix: the detached controller. Row N10: the same manager inside of a Ray actor."""
    remote: Any = ray.remote
    kind = remote(num_cpus=0, name="controller", lifetime="detached")(Controller)
    controller = kind.remote(detached)
    told: dict[str, Any] = dict(ray.get(controller.open.remote(1), timeout=90))
    world.watch(told["pid"], *told["pids"])
    kill(told["pid"])
    if not detached:
        world.check_nothing_is_left()
        return

    async def main() -> None:
        await eventually(lambda: "controller" not in world.actors().values())
        async with pool.attach(NAME) as replicas:
            await replicas.wait_settled(30)
            assert [member.id for member in replicas.members()] == told["ids"]
            pids = [host.pid for member in replicas.members() for host in hosts_of(member)]
            assert pids == told["pids"]

    anyio.run(main)


def test_a_roll_goes_on_when_its_driver_is_killed_half_way(world: World, tmp_path: Path) -> None:
    """Row R4."""
    with owner(world, "roll", tmp_path) as (process, _):
        anyio.run(
            eventually, lambda: any(name.endswith(".1") for name in world.actors().values()), 60
        )
        process.kill()
        process.wait(30)

    async def main() -> None:
        async with pool.attach(NAME) as replicas:
            await replicas.wait_settled(90)
            assert [member.revision for member in replicas.members()] == [1, 1]
            for member in replicas.members():
                world.watch(*(host.pid for host in hosts_of(member)))

    anyio.run(main)


def test_only_what_nobody_holds_is_reaped(world: World, tmp_path: Path) -> None:
    """Row C5: by identity and lease, in every namespace, and a dry run first."""
    with owner(world, "leave", tmp_path) as (process, _):
        process.wait(30)

    async def main() -> None:
        async with pool.ReplicaPool(f"{NAME}_b", shape=pool.ReplicaShape(devices=2)) as other:
            await other.scale(1, timeout_s=60)
            # What pools showed whose drivers died in other tests may still be there.
            assert {what.split()[0] for what in (await pool.reap()).reaped} <= {"window"}
            planned = await pool.reap(NAME, dry_run=True)
            assert sum(what.startswith("placement group") for what in planned.reaped) == 2
            assert len(of_the_pool(world)) == 3, "two replicas and the keeper"
            done = await pool.reap(NAME)
            assert done.reaped == planned.reaped
            await eventually(lambda: not of_the_pool(world))
            assert [each.name for each in await pool.list_pools()] == [f"{NAME}_b"]
            assert other.is_settled
            pids = [host.pid for host in hosts_of(other[0])]
            assert await other.broadcast(os.getpid, flat=True) == pids

    anyio.run(main)
