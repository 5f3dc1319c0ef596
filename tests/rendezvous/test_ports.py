"""The ports of a call: leased on the right host, given back when it is over (INV-12)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

import pool
from pool.cluster.interface import Actor, Cluster
from pool.rendezvous import Place, PortBook
from pool.testing import SimNode, SimulatedCluster, run
from tests.rendezvous.crowds import host
from tests.tree import hosts_of

Main = Callable[[pool.ReplicaPool], Awaitable[None]]


def with_two_replicas_of_two_hosts(main: Main) -> Callable[[], None]:
    async def open_and_run() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 4)
        shape = pool.ReplicaShape(devices=16)
        async with pool.ReplicaPool("p", shape=shape, cluster=cluster) as replicas:
            await replicas.scale(2)
            await main(replicas)
        assert not cluster.left()

    def runs() -> None:
        run(open_and_run, limit_s=3600)

    runs.__name__ = main.__name__
    return runs


class Recorded(pool.rendezvous.Rendezvous):
    """Keep what torch's rendezvous built. Hosts of a simulation share one process's variables."""

    def __init__(self, **options: Any) -> None:
        self.torch = pool.rendezvous.torch(**options)
        self.built: list[dict[str, str]] = []

    async def build(
        self, cluster: Cluster, places: Sequence[Place], ports: PortBook
    ) -> list[dict[str, str]]:
        self.built = await self.torch.build(cluster, places, ports)
        return self.built


async def ports_of(
    replicas: pool.ReplicaPool, work: Callable[[], Any] = int, **options: Any
) -> list[str]:
    """Make a call, and return the ports that it had, each world's once."""
    env = Recorded(**options)
    await replicas.broadcast(work, env=env)
    return [each["MASTER_PORT"] for each in env.built if each["RANK"] == "0"]


async def nap() -> None:
    await asyncio.sleep(1)


def held() -> list[str]:
    """Return the ports that this process leases, and with it every host of the simulation."""
    mine = {os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sorted(
        line[7].removeprefix("@pool-port-")
        for line in lines
        if len(line) > 7 and line[7].startswith("@pool-port-") and f"socket:[{line[6]}]" in mine
    )


class Nowhere(SimulatedCluster):
    """Answer nothing, or say that the host is dead."""

    def __init__(self, error: Exception) -> None:
        super().__init__([SimNode()])
        self.error = error

    async def call(
        self, actor: Actor, method: str, *args: Any, timeout_s: float | None = None
    ) -> Any:
        raise self.error


@with_two_replicas_of_two_hosts
async def test_a_call_has_its_ports_and_gives_them_back(replicas: pool.ReplicaPool) -> None:
    during: list[list[str]] = []
    ports = await ports_of(replicas, lambda: during.append(held()))
    assert len(set(ports)) == 2
    assert during == [sorted(ports)] * 4
    assert held() == []
    [one] = await ports_of(replicas, scope="pool")
    assert one != ports[0], "whoever still calls the last world does not reach the next one"
    assert await ports_of(replicas, port=4321) == ["4321"] * 2


@with_two_replicas_of_two_hosts
async def test_two_calls_at_once_never_share_a_port(replicas: pool.ReplicaPool) -> None:
    seen: list[str] = []

    async def one() -> None:
        seen.extend(await ports_of(replicas, nap))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
    assert len(set(seen)) == len(seen) == 6
    assert held() == []


@with_two_replicas_of_two_hosts
async def test_calls_that_were_left_running_keep_their_ports_until_they_end(
    replicas: pool.ReplicaPool,
) -> None:
    with pytest.raises(TimeoutError):
        await replicas.broadcast(asyncio.sleep, 100, env=pool.rendezvous.torch(), timeout_s=10)
    kept = held()
    assert len(kept) == 2
    # Calls that come later, and end earlier or later, have nothing to do with it.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replicas.broadcast, asyncio.sleep, 1000)
        await replicas.broadcast(asyncio.sleep, 1)
        assert held() == kept
        await anyio.sleep(100)
        assert held() == []


@with_two_replicas_of_two_hosts
async def test_a_call_that_fails_on_one_host_gives_its_ports_back_when_the_others_end(
    replicas: pool.ReplicaPool,
) -> None:
    calls: list[int] = []

    async def fail() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("no")
        await asyncio.sleep(50)

    with pytest.raises(ValueError, match="no"):
        await replicas.broadcast(fail, env=pool.rendezvous.torch())
    assert held() != []
    await anyio.sleep(200)
    assert held() == []


@with_two_replicas_of_two_hosts
async def test_a_lease_that_was_not_waited_for_is_given_back_too(
    replicas: pool.ReplicaPool,
) -> None:
    hosts = [hosts_of(member)[0] for member in replicas.members()]
    book = PortBook(replicas.cluster)
    with anyio.move_on_after(0.0001) as scope:
        await book.lease_each(hosts)
    assert scope.cancelled_caught
    await book.release()
    await book.release()
    assert held() == []


@with_two_replicas_of_two_hosts
async def test_what_cannot_be_leased_is_said_as_itself_and_the_rest_given_back(
    replicas: pool.ReplicaPool,
) -> None:
    class Half(pool.rendezvous.Rendezvous):
        async def build(
            self, cluster: Cluster, places: Sequence[Place], ports: PortBook
        ) -> list[dict[str, str]]:
            await ports.lease(places[0].host)
            assert len(held()) == 1
            await ports.lease_each([host(0, 0, 1, 0)])
            raise AssertionError

    with pytest.raises(pool.MemberLost):
        await replicas.broadcast(int, env=Half())
    assert held() == []


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (pool.MemberLost("p/0.1", "crash", "gone"), False),
        (pool.CallTimeout("no answer"), True),
    ],
)
def test_giving_back_never_raises_and_says_who_did_not_answer(
    error: Exception, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        book = PortBook(Nowhere(error))
        with pytest.raises(type(error)):
            await book.lease(host(0, 0, 1, 0))
        await book.release()

    with caplog.at_level(logging.WARNING, "pool"):
        run(main, limit_s=60)
    assert ("ports_kept" in caplog.text and "no answer" in caplog.text) == logged
