"""A Ray cluster of several nodes for one benchmark, and hands on the processes of its nodes.

Why not `pool.demo.embedded`: a benchmark needs Ray's health checks set, and nodes silenced and
taken away.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import anyio
import psutil
import ray
from ray.cluster_utils import Cluster

from pool.cluster.ray import private

RELAXED = {"health_check_timeout_ms": 60_000}
"""Two busy cores starve raylets; only a scenario about detection wants Ray's own defaults."""
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_CPUS = 4


class Nodes:
    """Silence and remove the nodes of an embedded cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def add(self, **what: Any) -> None:
        """Add a node with resources, labels or variables of its own, and wait for it."""
        self._cluster.add_node(**what)

    def silence(self, node_id: str) -> None:
        """Stop every process of a node without ending one, as a cut link or a hung machine does."""
        for process in self._processes(node_id):
            process.send_signal(signal.SIGSTOP)

    def remove(self, node_id: str) -> None:
        """Kill every process of a node, stopped ones too."""
        left = self._processes(node_id)
        self._cluster.remove_node(self._node(node_id), allow_graceful=False)
        # NB: workers end by themselves when their raylet is gone, but not while they are stopped.
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _node(self, node_id: str) -> Any:
        return next(node for node in self._cluster.worker_nodes if node.node_id == node_id)

    def _processes(self, node_id: str) -> list[psutil.Process]:
        [raylet] = self._node(node_id).all_processes["raylet"]
        parent = psutil.Process(raylet.process.pid)
        return [parent, *parent.children(recursive=True)]


@contextmanager
def embedded_cluster(nodes: int, gpus: int, **system_config: Any) -> Iterator[Nodes]:
    """Start a head without GPUs and nodes with logical ones, connect, and end it all afterwards."""
    folder = tempfile.mkdtemp(prefix="pool-")
    os.environ.update(_ENVIRONMENT, RAY_TMPDIR=folder)
    logging.getLogger("ray").setLevel(logging.ERROR)
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "include_log_monitor": False,
                "_system_config": system_config,
            },
        )
        undo.callback(cluster.shutdown)
        for _ in range(nodes):
            cluster.add_node(num_cpus=_CPUS, num_gpus=gpus, wait=False)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        undo.callback(ray.shutdown)
        cluster.wait_for_nodes(timeout=120)
        yield Nodes(cluster)


def pid_of(actor_id: str) -> int:
    """Return the process id of an actor, as Ray's own table has it."""
    return int(private.actor_table()[actor_id]["Pid"])


async def until_none_idles(patience_s: float = 60.0) -> None:
    """Wait until Ray has ended the worker processes that nobody took: they would save a start.

    Raises:
        TimeoutError: It keeps some.
    """
    with anyio.fail_after(patience_s):
        # Nobody tells of processes.
        while any(map(_idles, psutil.Process().children(recursive=True))):  # noqa: ASYNC110
            await anyio.sleep(0.1)


def _idles(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    # Until a process gives itself a title, its command line says that it is a worker.
    return any(word.startswith("ray::IDLE") or word.endswith("default_worker.py") for word in words)
