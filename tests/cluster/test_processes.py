"""Managed processes on a real Ray: devices, ports, readiness, logs, and their end."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.request
from typing import Any

import anyio
import pytest

import pool
from pool.process import pids
from tests.tree import ON_ONE_NODE, ON_TWO_NODES, QUICK, Story, kill, until
from tests.world import World

pytestmark = pytest.mark.ray

SERVER = """
import http.server, os, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(os.environ[self.path[1:]].encode() if len(self.path) > 1 else b"ok")
    def log_message(self, *args): pass
print("serves", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Page).serve_forever()
"""


def server(**options: Any) -> pool.Process:
    return pool.Process(
        [sys.executable, "-c", SERVER, pool.Fill("{api}")],
        name="server",
        ports=["api"],
        ready=pool.probes.http("/", port="api"),
        **options,
    )


async def get(process: pool.ManagedProcess, path: str = "/") -> str:
    def ask() -> str:
        with urllib.request.urlopen(f"http://{process.address('api')}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    return await anyio.to_thread.run_sync(ask)


def test_every_host_has_its_server_with_its_devices_and_its_port(world: World) -> None:
    async def main() -> None:
        async with pool.ReplicaPool(
            "serve", shape=ON_TWO_NODES, restart=QUICK, processes=[server()]
        ) as replicas:
            result = await replicas.scale(1, timeout_s=120)
            assert result.is_complete, result
            [hosts] = replicas.hosts()
            servers = [await host.process("server") for host in hosts]
            assert len({each.address("api") for each in servers}) == 2
            for each in servers:
                devices = await get(each, "/CUDA_VISIBLE_DEVICES")
                assert sorted(devices.split(",")) == ["0", "1", "2", "3"]
                status = await each.status()
                assert status.pid is not None
                world.watch(status.pid)
                assert "serves" in await each.tail()
            pids = [(await each.status()).pid for each in servers]
            report = await servers[0].stop()
            assert report.exit.signal == signal.SIGTERM
            assert not await servers[0].is_alive()
            assert len(set(pids)) == 2

    anyio.run(main)


def test_a_server_that_dies_takes_its_replica_with_it_or_is_started_again(world: World) -> None:
    async def main() -> None:
        async with pool.ReplicaPool(
            "serve", shape=ON_ONE_NODE, restart=QUICK, processes=[server(devices=0)]
        ) as replicas:
            await replicas.scale(1, timeout_s=120)
            story = Story(replicas)
            [[host]] = replicas.hosts()
            process = await host.process("server")
            assert await get(process, "/CUDA_VISIBLE_DEVICES") == ""
            status = await process.status()
            assert status.pid is not None
            kill(status.pid)
            await story.until(pool.EventKind.MEMBER_FAULT)
            [fault] = story.of(pool.EventKind.MEMBER_FAULT)
            assert "server" in fault.facts["reason"]
            assert "SIGKILL" in fault.facts["reason"]
            await until(replicas, lambda: replicas.is_settled, 90)
            [[host]] = replicas.hosts()
            tail = await (await host.process("server")).tail()
            assert tail.count("\nserves\n") == 2, tail
            again = await host.start_process(
                pool.Process(
                    [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"],
                    name="again",
                    devices=1,
                    ready=pool.probes.log("up"),
                    restart=QUICK,
                )
            )
            first = (await again.status()).pid
            assert first is not None
            kill(first)

            with anyio.fail_after(30):
                while (await again.status()).pid in (None, first):  # noqa: ASYNC110 - no event
                    await anyio.sleep(0.05)
            assert (await again.status()).starts == 2

    anyio.run(main)


CHATTER = """
import itertools, time
for number in itertools.count():
    print(f"line {number}", flush=True); time.sleep(0.1)
"""


def talker(name: str = "talker", **options: Any) -> pool.Process:
    return pool.Process([sys.executable, "-c", CHATTER], name=name, devices=0, **options)


def numbers(text: str) -> list[int]:
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith("line")]


def test_a_log_is_followed_to_its_end_and_read_when_its_host_is_dead(world: World) -> None:
    """Rows C8, C10: no line is lost, also of what was written just before the host was killed."""

    async def main() -> None:
        async with pool.ReplicaPool("talk", shape=ON_ONE_NODE, restart=QUICK) as replicas:
            await replicas.scale(1, timeout_s=120)
            [[host]] = replicas.hosts()
            process = await host.start_process(talker("first"))
            pieces: list[str] = []
            async for text in process.follow(from_start=True):
                pieces.append(text)
                if len(pieces) == 3:
                    await process.stop()
            heard = numbers("".join(pieces))
            assert heard == [*range(len(heard))]
            process = await host.start_process(talker("second", grace_s=0))
            pieces.clear()

            async def listen() -> None:
                async for text in process.follow(from_start=True):
                    pieces.append(text)
                    if len(pieces) == 5:
                        kill(host.info.pid)

            with pytest.raises(pool.MemberLost):
                await listen()
            tails: list[str] = []

            async def read() -> None:
                tails.append(await process.tail(1000))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                tasks.start_soon(read)
            heard = numbers("".join(pieces))
            assert heard == [*range(len(heard))]
            assert [numbers(tail) for tail in tails] == [heard, heard]

    anyio.run(main)


async def until_begun(host: pool.Host) -> pool.ManagedProcess:
    """Wait until the only process of a host runs, ready or not."""
    while True:
        for process in await host.processes():
            if await process.is_alive():
                return process
        await anyio.sleep(0.05)


def test_a_start_that_is_cancelled_leaves_nothing(world: World) -> None:
    async def main() -> None:
        async with pool.ReplicaPool("late", shape=ON_ONE_NODE, restart=QUICK) as replicas:
            await replicas.scale(1, timeout_s=120)
            [[host]] = replicas.hosts()
            late = talker(ready=pool.probes.log("never"), ports=["api"], grace_s=1)
            begun: list[int] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(host.start_process, late)
                begun.append((await (await until_begun(host)).status()).pid or 0)
                assert pids.of(*begun) is not None
                tasks.cancel_scope.cancel()
            assert pids.of(*begun) is None
            assert not await (await host.process("talker")).is_alive()
            again = await host.start_process(talker(ready=pool.probes.log("line 3")))
            assert await again.is_alive()

    anyio.run(main)


def test_processes_of_a_replica_find_each_other(world: World) -> None:
    async def main() -> None:
        async with pool.ReplicaPool(
            "meet",
            shape=ON_TWO_NODES,
            restart=QUICK,
            processes=[server()],
            rendezvous=pool.rendezvous.torch(),
        ) as replicas:
            await replicas.scale(1, timeout_s=120)
            [hosts] = replicas.hosts()
            servers = [await host.process("server") for host in hosts]
            seen = [
                [await get(each, f"/{name}") for each in servers]
                for name in ("RANK", "WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR")
            ]
            assert seen[:3] == [["0", "1"], ["2", "2"], ["0", "1"]]
            assert seen[3] == [hosts[0].info.address] * 2
            masters = {await get(each, "/MASTER_PORT") for each in servers}
            assert len(masters) == 1
            assert masters.isdisjoint({str(each.ports["api"]) for each in servers})

    anyio.run(main)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["no-such-program", "--port", "1"], "no such program on the PATH"),
        ([sys.executable, "-c", "print('no weights in here'); exit(3)"], "no weights in here"),
    ],
)
def test_a_process_that_does_not_start_says_why(world: World, argv: list[str], says: str) -> None:
    async def main() -> None:
        process = pool.Process(argv, name="wrong", devices=0, ready=pool.probes.log("ready"))
        policy = pool.RestartPolicy(intensity=0)
        async with pool.ReplicaPool(
            "wrong", shape=ON_ONE_NODE, restart=policy, processes=[process]
        ) as replicas:
            with pytest.raises(pool.SizeUnreachable, match=says) as caught:
                await replicas.scale(1, timeout_s=60)
            print(caught.value)
            assert "Traceback" not in str(caught.value)

    anyio.run(main)


def test_hosts_that_hold_their_devices_give_each_worker_its_own(world: World) -> None:
    def where() -> str:
        time.sleep(1)
        return os.environ["CUDA_VISIBLE_DEVICES"]

    async def main() -> None:
        async with pool.ReplicaPool(
            "held",
            shape=pool.ReplicaShape(devices=3, cpus_per_device=2),
            restart=QUICK,
            hosts_hold_devices=True,
            processes=[server(devices=1)],
        ) as replicas:
            await replicas.scale(1, timeout_s=120)
            [[host]] = replicas.hosts()
            whole = (await host.call(where)).split(",")
            assert len(set(whole)) == 3
            process = await host.process("server")
            its = await get(process, "/CUDA_VISIBLE_DEVICES")
            one = pool.RunOptions(devices=1)
            runs = [host.begin_run(where, options=one) for _ in range(3)]
            seen = [await run.result() for run in runs]
            assert sorted([its, *seen[:2]]) == sorted(whole)
            assert seen[2] in seen[:2]
            assert await host.run(where, options=pool.RunOptions(devices=0)) == ""
            none = await host.start_process(talker())
            assert (await none.status()).pid is not None
            environ = await host.call(_environ_of, (await none.status()).pid)
            assert environ["CUDA_VISIBLE_DEVICES"] == ""

    anyio.run(main)


def _environ_of(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/environ", encoding="utf-8") as file:
        return dict(pair.split("=", 1) for pair in file.read().split("\0") if "=" in pair)
