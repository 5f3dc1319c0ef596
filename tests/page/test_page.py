"""The page of a pool of this process, in simulation: it follows, and ends with its block."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import anyio
import pytest

import pool
from pool.page import Page
from pool.testing import SimNode, SimulatedCluster, run
from tests.window.worlds import Shy


def read(url: str) -> dict[str, Any]:
    """Return the first thing that the page at an address is told."""
    address, _, token = url.removeprefix("http://").partition("/#token=")
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", "/stream", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.fp.readline()
        told: dict[str, Any] = json.loads(answer.fp.readline().removeprefix(b"data: "))
        return told
    finally:
        connection.close()


def test_a_page_shows_its_pool_follows_it_and_ends_with_its_block() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 4)
        shape = pool.ReplicaShape(devices=16)
        async with pool.ReplicaPool("r", shape=shape, cluster=cluster) as replicas:
            await replicas.scale(2)
            async with Page(replicas) as page:
                await anyio.sleep(1)
                first = read(page.url)
                assert [one["member"]["state"] for one in first["slots"]] == ["ready", "ready"]
                assert "pool_opened" in [event["kind"] for event in first["events"]]
                assert len(first["slots"][0]["member"]["info"]["hosts"]) == 2
                cluster.crash(replicas.handles()[1])
                await anyio.sleep(10)
                then = read(page.url)
                assert then["slots"][1]["member"]["generation"] == 2
                assert [fault[1] for fault in then["slots"][1]["faults"]] == ["crash"]
                assert then["pool"]["budgets"][0]["used"] == 1
                url = page.url
            with pytest.raises(ConnectionRefusedError):
                read(url)
            with pytest.raises(pool.ConfigError):
                page.url  # noqa: B018 - it is asked for, and refused
            assert replicas.snapshot().ready == 2
        assert not cluster.left()

    run(main)


def test_a_page_that_cannot_listen_leaves_nothing_behind() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)])
        shape = pool.ReplicaShape(devices=8)
        async with pool.ReplicaPool("r", shape=shape, cluster=cluster) as replicas:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                page = Page(replicas, port=taken.getsockname()[1])
                with pytest.raises(pool.ConfigError):
                    await page.__aenter__()

    run(main)


def test_an_error_in_its_block_comes_out_and_ends_the_page() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)])
        shape = pool.ReplicaShape(devices=8)
        replicas = pool.ReplicaPool("r", shape=shape, cluster=cluster)
        async with replicas, Page(replicas):
            raise LookupError("of the user")

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main)
    assert caught.group_contains(LookupError)


def test_a_pool_that_cannot_be_shown_is_said_on_the_page_and_the_pool_goes_on() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)])
        shape = pool.ReplicaShape(devices=8)
        async with Shy("r", shape=shape, cluster=cluster) as shy, Page(shy) as page:
            await shy.scale(1)
            await anyio.sleep(5)
            assert "a fault of the user's" in read(page.url)["trouble"]
            assert shy.snapshot().ready == 1
            shy.is_mended = True
            await anyio.sleep(5)
            told = read(page.url)
            assert (told["trouble"], told["pool"]["ready"]) == ("", 1)
            kinds = [event["kind"] for event in told["events"]]
            assert kinds == [event.kind for event in shy.events()], "none was lost meanwhile"
        assert not cluster.left()

    run(main)
