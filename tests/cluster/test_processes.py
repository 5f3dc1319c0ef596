"""Managed processes on a real Ray: devices, ports, readiness, logs, and their end."""

from __future__ import annotations

import signal
import sys
import urllib.request
from typing import Any

import anyio
import pytest

import pool
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
