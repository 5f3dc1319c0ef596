"""The command line in a process of its own, beside a driver that lives, and then does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.world import World

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def run(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from pool.cli import main; main()", *words],
        env=os.environ | {"RAY_ADDRESS": world.cluster.address, "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    print(f"$ pool {' '.join(words)}  [{done.returncode}]\n{done.stdout}{done.stderr}")
    assert "Traceback" not in done.stderr
    return done


def pools(world: World) -> dict[str, dict[str, Any]]:
    done = run(world, "status", "--json")
    assert done.stderr == "", "Ray is quiet"
    return {view["name"]: view for view in json.loads(done.stdout)["pools"]}


def kinds(world: World) -> list[str]:
    lines = run(world, "events", "rollout", "--json").stdout.splitlines()
    return [json.loads(line)["event"]["kind"] for line in lines]


@pytest.fixture
def driver(world: World) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.cluster.cli_driver", world.cluster.address]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        try:
            yield driver
        finally:
            driver.kill()
            driver.wait()
            while "is held by" in run(world, "reap", "eval", "--yes").stderr:
                pass  # Until the dead owner's lease is over, it may come back.
            run(world, "reap", "--yes")


@pytest.mark.timeout(400)
def test_it_shows_explains_scales_and_drains_and_clears_away_what_a_dead_driver_left(
    world: World, driver: subprocess.Popen[str]
) -> None:
    world.eventually(lambda: pools(world)["rollout"]["picture"] is not None, str)
    jobs = len(psutil.Process(driver.pid).children())
    text = run(world, "status").stdout
    assert "rollout  running  1 of 1 ready" in text
    assert "process server  ready" in text
    assert "GPU" in text
    explained = run(world, "explain", "rollout/0").stdout
    assert "it has been ready for" in explained
    assert "member_state  slot 0.1" in explained
    assert run(world, "logs", "rollout/0", "server").stdout.endswith("hello\n")
    listed = run(world, "plan", "--devices", "4", "--replicas", "2")
    assert listed.returncode == 0, listed.stderr
    scaled = run(world, "scale", "rollout", "2")
    assert (scaled.returncode, scaled.stdout) == (0, "pool 'rollout': 2 of 2 ready\n")
    refused = run(world, "scale", "rollout", "1000")
    assert refused.returncode == 1
    assert "can never reach 1000 replicas" in refused.stderr
    assert run(world, "drain", "rollout/1").returncode == 5
    assert run(world, "drain", "rollout/1", "--yes").returncode == 0
    # What is shown follows what happens by a second.
    world.eventually(lambda: kinds(world).count("pool_asked") == 3, lambda: kinds(world))
    assert len(psutil.Process(driver.pid).children()) == jobs, "looking on starts nothing"
    driver.kill()
    driver.wait()
    world.eventually(lambda: pools(world)["rollout"]["status"] == "owner gone", str)
    text = run(world, "status").stdout
    assert "eval  owner gone  1 of 1 ready" in text
    assert "and a keeper" in text
    assert run(world, "scale", "rollout", "2").returncode == 6
    assert run(world, "scale", "eval", "2", "--yes").stdout == "pool 'eval': 2 of 2 ready\n"
    assert pools(world)["eval"]["status"] == "no owner"
    logs = run(world, "logs", "rollout")
    assert logs.returncode == 6
    assert "server.log" in logs.stderr
    world.eventually(lambda: not pools(world)["rollout"]["actors"], str)
    dry = run(world, "reap", "--dry-run")
    assert "would be taken away: window of pool rollout" in dry.stdout
    assert run(world, "reap", "--yes").returncode == 0
    assert "rollout" not in pools(world)
    held = run(world, "reap", "eval", "--yes")
    while held.returncode == 1 and "is held by" in held.stderr:
        held = run(world, "reap", "eval", "--yes")  # Until its lease is over, it may come back.
    assert held.returncode == 0
    assert "keeper of eval" in held.stdout
    assert pools(world) == {}


def test_addresses_where_no_cluster_is_are_refused_in_a_sentence(world: World) -> None:
    for address, says in (
        ("ray://127.0.0.1:10001", "give that of the cluster's GCS, as host:port"),
        ("127.0.0.1:1", "nobody answers at"),
        ("nowhere", "give that of the cluster's GCS, as host:port"),
        (":", "give that of the cluster's GCS, as host:port"),
        ("nowhere.invalid:6379", "nowhere.invalid"),
    ):
        done = run(world, "list", "--address", address)
        assert (done.returncode, says in done.stderr) == (3, True), done.stderr
