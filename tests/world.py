"""A real Ray of several nodes on this machine, and what is to be seen in it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

from pool.cluster.ray import private

PATIENCE_S = 15.0
"""How long Ray's tables may take to show an end that was already confirmed."""


class ClusterOfNodes:
    """Start a Ray cluster with one head without GPUs and some nodes with logical GPUs."""

    def __init__(self, nodes: int, gpus: int, **system_config: Any) -> None:
        self.nodes = nodes
        self.gpus = gpus
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 4,
                "num_gpus": 0,
                "include_dashboard": False,
                # Two busy cores starve raylets; only tests of detection want haste.
                "_system_config": {"health_check_timeout_ms": 60_000, **system_config},
            },
        )
        for _ in range(nodes):
            self.cluster.add_node(num_cpus=8, num_gpus=gpus, wait=False)
        ray.init(address=self.address, logging_level=logging.ERROR, log_to_driver=False)
        self.cluster.wait_for_nodes(timeout=120)

    @property
    def address(self) -> str:
        """Where to connect to."""
        return str(self.cluster.address)

    def close(self) -> None:
        """End every process of the cluster, by its id."""
        ray.shutdown()
        self.cluster.shutdown()


class World:
    """Look at the cluster, and remember what was there before the test."""

    def __init__(self, cluster: ClusterOfNodes) -> None:
        self.cluster = cluster
        self._groups_before = set(self.groups())
        self._actors_before = set(self.actors())
        self._processes: dict[int, psutil.Process] = {}

    def actors(self) -> dict[str, str]:
        """Return the actors that are not dead: id to name."""
        return {
            actor_id: actor["Name"]
            for actor_id, actor in private.actor_table().items()
            if actor["State"] != "DEAD"
        }

    def groups(self) -> dict[str, str]:
        """Return the placement groups that are not removed: id to name."""
        return {
            group_id: group["name"]
            for group_id, group in ray.util.placement_group_table().items()
            if group["state"] != "REMOVED"
        }

    def watch(self, *pids: int) -> None:
        """Note processes that have to be gone when the test is over."""
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._processes[pid] = psutil.Process(pid)

    def check_nothing_is_left(self) -> None:
        """Fail when an actor, a group or a watched process is left."""
        self.eventually(lambda: set(self.actors()) <= self._actors_before, self.actors)
        self.eventually(lambda: set(self.groups()) <= self._groups_before, self.groups)
        self.eventually(lambda: not self._alive(), self._alive)

    def _alive(self) -> list[int]:
        return [pid for pid, process in self._processes.items() if is_alive(process)]

    def eventually(
        self,
        condition: Callable[[], bool],
        seen: Callable[[], object],
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Wait until a condition holds, or fail with what is seen."""
        until = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > until:
                raise AssertionError(f"still there after {patience_s} s: {seen()}")
            time.sleep(0.05)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; one that ended and waits for its parent to notice does not."""
    # psutil compares creation times, so that a pid used again is not taken for the old one.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def all_end(processes: Iterable[psutil.Process], limit_s: float) -> bool:
    """Wait until no process is alive, and return whether that was so within a limit."""
    until = time.monotonic() + limit_s
    while any(is_alive(process) for process in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
