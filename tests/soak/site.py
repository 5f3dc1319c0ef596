"""The machine park of a soak: a real Ray of several nodes that come and go."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio.to_thread
import ray
from ray.cluster_utils import Cluster

from pool.cluster.ray import private

NODES = 4
GPUS = 8
CPUS = 10
ADD_TRIES = 3
"""On a busy machine a raylet may take longer to start than Ray waits for it."""
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_STORE = 80 * 2**20
_DEAD_SOON = {
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
    # A raylet on two busy cores may take long to answer; one that is gone refuses at once.
    "health_check_timeout_ms": 20_000,
}


class Site:
    """Add, drain and take away nodes; one at a time, so that there is room for what they held."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.lock = asyncio.Lock()
        self._leaving: set[str] = set()

    @property
    def address(self) -> str:
        """Where to connect to."""
        return str(self._cluster.address)

    def node_ids(self) -> list[str]:
        """Return the nodes that are to stay, the head excepted."""
        ids = (str(node.node_id) for node in self._cluster.worker_nodes)
        return [node_id for node_id in ids if node_id not in self._leaving]

    async def add(self) -> None:
        """Start a node, and wait until it is there.

        Raises:
            Exception: Ray said again and again that the node did not start in time.
        """
        for tries_left in reversed(range(ADD_TRIES)):
            try:
                await anyio.to_thread.run_sync(self._add)
            except Exception:
                if not tries_left:
                    raise
            else:
                return

    def _add(self) -> None:
        self._cluster.add_node(num_cpus=CPUS, num_gpus=GPUS, object_store_memory=_STORE)

    async def remove(self, node_id: str, *, graceful: bool) -> None:
        """End a node's raylet by SIGTERM, or else by SIGKILL, and wait for its process."""
        self._leaving.add(node_id)
        node: Any = next(n for n in self._cluster.worker_nodes if n.node_id == node_id)
        await anyio.to_thread.run_sync(self._cluster.remove_node, node, graceful)

    async def drain(self, node_id: str, deadline: float) -> bool:
        """Tell Ray that a node will be preempted; return whether it took note."""
        self._leaving.add(node_id)
        return await anyio.to_thread.run_sync(private.drain_node, node_id, "a soak", deadline)


@contextmanager
def open_site() -> Iterator[Site]:
    """Start the nodes, connect this process, and end every process of it afterwards."""
    folder = tempfile.mkdtemp(prefix="pool-")
    os.environ.update(_ENVIRONMENT, RAY_TMPDIR=folder)
    logging.getLogger("ray").setLevel(logging.ERROR)
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "num_gpus": 0,
                "object_store_memory": _STORE,
                "include_dashboard": False,
                "include_log_monitor": False,
                "_system_config": _DEAD_SOON,
            },
        )
        undo.callback(cluster.shutdown)
        for _ in range(NODES):
            cluster.add_node(num_cpus=CPUS, num_gpus=GPUS, object_store_memory=_STORE, wait=False)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        undo.callback(ray.shutdown)
        cluster.wait_for_nodes(timeout=120)
        # NB: later nodes are started by threads, which may not set signal handlers. If this process
        # is killed, they end as well: the reaper of the head ends the GCS, and they miss it.
        cluster._shutdown_at_exit = False
        yield Site(cluster)
