"""`pool page` beside a real Ray: a process of its own, which is no part of the cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import anyio
import pytest

import pool
from tests.page.test_page import read
from tests.tree import ON_TWO_NODES
from tests.world import World

pytestmark = pytest.mark.ray


def served(address: str, name: str) -> dict[str, Any]:
    """Start the command, read what it tells a browser, and end it as Ctrl-C does."""
    command = [sys.executable, "-m", "pool.cli", "page", name, "--json", "--address", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            told = read(url)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
    return {**told, "code": process.returncode}


def test_a_pool_of_another_process_is_served(world: World) -> None:
    async def main() -> None:
        async with pool.ReplicaPool("paged", shape=ON_TWO_NODES) as replicas:
            await replicas.scale(1, timeout_s=120)
            await replicas.wait_settled(60)
            # Until it shows itself so.
            with anyio.fail_after(60):
                told: dict[str, Any] = {}
                while not told or told["pool"]["ready"] != 1:
                    told = await anyio.to_thread.run_sync(served, world.cluster.address, "paged")
            [slot] = told["slots"]
            assert slot["member"]["state"] == "ready"
            assert len(slot["member"]["info"]["hosts"]) == 2
            assert told["code"] == 130

    anyio.run(main)
