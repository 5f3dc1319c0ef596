"""The GCS, Ray's own store of who exists: it is killed, stays away, and comes back.

Fault matrix: GCS, restarted with persistence. Ray 2.60 can keep it in RocksDB, on a local disk;
without it every process of Ray ends sooner or later, whatever a pool does. Nothing of a pool is in
the way of calls, polls and members while the GCS is away: what needs it waits for it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray._private.node import Node
from ray.cluster_utils import Cluster

import pool
from tests.chaos.driven import Driven, driven
from tests.chaos.obedient import Orders
from tests.tree import kill
from tests.world import all_end

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(Node, "_is_rocksdb_gcs"), reason="this Ray keeps its GCS in memory or in Redis"
    ),
]

ROOT = Path(__file__).parents[2]
HEALTH = pool.HealthPolicy(period_s=0.5, timeout_s=1, failures=3, grace_s=0)
AWAY_S = 4.0


class Persisted:
    """Run a cluster of its own, whose GCS outlives its process."""

    def __init__(self, folder: Path) -> None:
        system_config = {
            "gcs_storage": "rocksdb",
            "gcs_storage_path": str(folder),
            "health_check_timeout_ms": 60_000,
        }
        self._cluster: Any = Cluster(  # Its type would have one ask for a head again and again.
            initialize_head=True,
            head_node_args={
                "num_cpus": 4,
                "include_dashboard": False,
                "_system_config": system_config,
            },
        )
        self._cluster.add_node(num_cpus=8, num_gpus=6, wait=False)
        self._cluster.wait_for_nodes(timeout=120)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def gcs_pid(self) -> int:
        [gcs] = self._cluster.head_node.all_processes["gcs_server"]
        return int(gcs.process.pid)

    @contextmanager
    def without_gcs(self) -> Iterator[None]:
        """Kill the GCS, and start it anew on the same port after the block."""
        head = self._cluster.head_node
        kill(self.gcs_pid)
        head.kill_gcs_server(check_alive=False)
        try:
            yield
        finally:
            head.start_gcs_server()

    def close(self) -> None:
        """End every process of the cluster, by its id."""
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def persisted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Persisted]:
    cluster = Persisted(tmp_path_factory.mktemp("gcs"))
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def driver(persisted: Persisted) -> Iterator[Driven]:
    """Open a pool of two, from a process that is connected to this cluster and not to another."""
    orders = Orders(address=persisted.address, health=HEALTH)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.obedient", orders.to_json()],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with driven(process) as driver:
        yield driver


def test_members_live_and_work_while_the_gcs_is_away_and_stay_when_it_is_back(
    persisted: Persisted, driver: Driven
) -> None:
    before = driver.said("ready")[0]["members"]
    called = driver.ask("call", "called")["results"]  # Starts the workers, which needs the GCS.
    killed_at = time.time()
    with persisted.without_gcs():
        assert driver.ask("call", "called")["results"] == called
        time.sleep(AWAY_S)
    time.sleep(AWAY_S)  # Time for Ray to notice that members are missing, if they were.
    assert driver.ask("settle", "settled")["members"] == before
    assert not driver.said("member_state", since=killed_at), "nobody was even suspect"
    assert driver.ask("scale 3", "scaled")["reached"] == 3
    three = driver.ask("settle", "settled")["members"]
    assert three[:2] == before, "nobody else was touched (INV-3)"
    kill(three[1]["root_pid"])
    driver.until("member_state", state="ready", slot=1, generation=2)
    assert not driver.close()["leftovers"]


def test_a_size_that_is_asked_for_while_the_gcs_is_away_is_reached_when_it_is_back(
    persisted: Persisted, driver: Driven
) -> None:
    with persisted.without_gcs():
        driver.order("scale 3")
        time.sleep(AWAY_S)
        assert not driver.said("scaled")
    assert driver.until("scaled")["reached"] == 3
    assert not driver.said("member_fault")
    assert not driver.close()["leftovers"]


def test_a_replica_that_dies_while_the_gcs_is_away_is_suspect_and_replaced_when_it_is_back(
    persisted: Persisted, driver: Driven
) -> None:
    """Its death is told by the GCS alone: until that is back, there is only its silence."""
    victim, other = driver.said("ready")[0]["members"]
    killed_at = time.time()
    with persisted.without_gcs():
        kill(victim["root_pid"])
        driver.until("member_state", state="suspect", slot=0)
        time.sleep(AWAY_S)
    driver.until("member_state", state="ready", slot=0, generation=2)
    [fault] = driver.said("member_fault", since=killed_at)
    print(f"{fault['cause']} known after {fault['at'] - killed_at:.2f} s: {fault['reason']}")
    after = driver.ask("settle", "settled")["members"]
    assert other in after, "nobody else was touched (INV-3)"
    assert not driver.close()["leftovers"]


def test_a_pool_that_is_closed_while_the_gcs_is_away_leaves_nothing_when_it_is_back(
    persisted: Persisted, driver: Driven
) -> None:
    members = driver.said("ready")[0]["members"]
    pids = [pid for member in members for pid in (member["root_pid"], *member["host_pids"])]
    processes = [psutil.Process(pid) for pid in pids]
    with persisted.without_gcs():
        driver.order("close")
        time.sleep(AWAY_S)
    closed = driver.until("closed")
    assert not closed["leftovers"]
    assert all_end(processes, 30)
