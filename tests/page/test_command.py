"""`pool page`: it serves what a pool shows, says where, and ends whole."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys

import anyio
import pytest

import pool
from pool.cli.page import serve
from pool.cli.voice import Voice
from pool.errors import PoolUnknown
from pool.testing import SimNode, SimulatedCluster, run
from tests.cli.canned import Canned
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


PROGRAM = """
import pool.cluster.connect
from pool.cli import main
from tests.cli.canned import Canned
canned = Canned()
pool.cluster.connect.observe = lambda address: canned
main()
"""


def status(port: int, host: str, token: str) -> int:
    """Ask for the stream by a name of the server, and return how that is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Host": host, "Authorization": f"Bearer {token}"}
        connection.request("GET", "/stream", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_its_token_is_that_of_the_environment_and_its_names_those_of_the_command_line() -> None:
    command = [
        *(sys.executable, "-c", PROGRAM, "page", "rollout", "--json", "--host", "0.0.0.0"),
        *("--name", "pool.example", "--name", "Other.Example"),
    ]
    with subprocess.Popen(
        command,
        env=os.environ | {"POOL_PAGE_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            address, _, token = json.loads(program.stdout.readline())["url"].partition("/#token=")
            assert token == TOKEN
            port = int(address.rpartition(":")[2])
            assert address == f"http://0.0.0.0:{port}"
            for name in ("pool.example", "other.example", "0.0.0.0"):
                assert status(port, f"{name}:{port}", TOKEN) == 200
                assert status(port, f"{name}:{port}", "another-token-for-tests") == 401
            assert status(port, f"localhost:{port}", TOKEN) == 421, "it was not told of that name"
            program.send_signal(signal.SIGINT)
            _, err = program.communicate(timeout=60)
            assert program.returncode == 130
            assert err.splitlines() == [
                "Others reach 0.0.0.0, and what they read is not encrypted."
            ]
        finally:
            program.kill()


def test_without_a_token_in_the_environment_one_is_drawn_and_a_poor_one_is_refused() -> None:
    for given, code in (("", 130), ("guess", 2)):
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "page", "rollout"],
            env=os.environ | {"POOL_PAGE_TOKEN": given},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with program:
            try:
                assert program.stdout is not None
                url = program.stdout.readline()
                assert (len(url.partition("#token=")[2].strip()) >= 32) == (code == 130)
                program.send_signal(signal.SIGINT)
                _, err = program.communicate(timeout=60)
                assert (program.returncode, "token has 5 characters" in err) == (code, code == 2)
            finally:
                program.kill()


def test_who_listens_everywhere_is_told_to_give_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        for names, lines in (((), 2), (("pool.example",), 1)):
            with anyio.move_on_after(1):
                await serve(Canned(), Voice(), "rollout", "0.0.0.0", 0, TOKEN, names)
            assert len(capsys.readouterr().err.splitlines()) == lines

    run(main)
