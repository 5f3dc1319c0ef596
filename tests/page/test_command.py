"""`pool page`: it serves what a pool shows, says where, and ends whole."""

from __future__ import annotations

import json

import anyio
import pytest

import pool
from pool.cli.page import serve
from pool.cli.voice import Voice
from pool.errors import PoolUnknown
from pool.testing import SimNode, SimulatedCluster, run
from tests.page.test_page import read

TOKEN = "a-token-for-tests-only"


def test_it_prints_the_address_and_serves_the_pool_until_it_is_cancelled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 4)
        shape = pool.ReplicaShape(devices=16)
        async with pool.ReplicaPool("r", shape=shape, cluster=cluster) as replicas:
            await replicas.scale(2)
            await anyio.sleep(5)
            url = ""
            async with anyio.create_task_group() as tasks:
                voice = Voice(as_json=True)
                tasks.start_soon(serve, cluster, voice, "r", "127.0.0.1", 0, TOKEN)
                await anyio.sleep(5)
                url = json.loads(capsys.readouterr().out)["url"]
                assert url.endswith(f"#token={TOKEN}")
                told = read(url)
                assert told["pool"]["ready"] == 2
                tasks.cancel_scope.cancel()
            with pytest.raises(ConnectionRefusedError):
                read(url)

    run(main)


def test_a_pool_that_is_not_there_is_said_before_anything_listens() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)])
        with pytest.raises(PoolUnknown):
            await serve(cluster, Voice(), "none", "127.0.0.1", 0, None)

    run(main)


def test_a_token_that_could_be_guessed_is_refused() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 2)
        shape = pool.ReplicaShape(devices=16)
        async with pool.ReplicaPool("r", shape=shape, cluster=cluster):
            await anyio.sleep(5)
            with pytest.raises(pool.ConfigError, match="token"):
                await serve(cluster, Voice(), "r", "127.0.0.1", 0, "guess")

    run(main)
