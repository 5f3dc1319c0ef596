"""A Ray cluster with Ray's own autoscaler, whose nodes are processes on this machine.

Ray ships a node provider for its own tests. `ray.cluster_utils.AutoscalingCluster` would start it,
and end every Ray process of the machine on the way; here the head is started by itself, with the
same configuration, and only what it started is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

from tests.chaos.driven import Driven, driven
from tests.world import all_end

ROOT = Path(__file__).parents[2]
HEAD_ID = "f" * 51 + "00000"
HEAD_TYPE = "ray.head.default"
MOST_NODES = 5
IDLE_S = 6.0
END_S = 30.0


def why_not() -> str:
    """Say why Ray's provider of fake nodes cannot be used; empty when it can."""
    try:
        from ray.autoscaler._private.fake_multi_node import node_provider
    except ImportError as error:
        return f"this Ray has no provider of fake nodes: {error}"
    if not hasattr(node_provider, "FakeMultiNodeProvider"):
        return "this Ray's provider of fake nodes is another"
    return ""


class GrowingCluster:
    """Run a head, and an autoscaler that adds nodes of four logical GPUs.

    Args:
        folder: Where its configuration is written.
    """

    def __init__(self, folder: Path) -> None:
        port = _free_port()
        config = folder / "autoscaler.json"
        address = f"{ray.util.get_node_ip_address()}:{port}"
        config.write_text(json.dumps(_config(address)))
        env = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        before = {child.pid for child in psutil.Process().children()}
        with _environment(env):
            self._cluster: Any = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 4,
                    "gcs_server_port": port,
                    "include_dashboard": False,
                    "autoscaling_config": str(config),
                    "env_vars": {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID},
                    "_system_config": {"health_check_timeout_ms": 60_000},
                },
            )
        self._roots = [child for child in psutil.Process().children() if child.pid not in before]

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def close(self) -> None:
        """End every process of the cluster, by its id."""
        below = [each for root in self._roots for each in _tree(root)]
        self._cluster.shutdown()
        # What the autoscaler started is nobody's once it is gone.
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert all_end(below, END_S)

    @contextmanager
    def run(self, module: str, *args: str) -> Iterator[Driven]:
        """Run a module that obeys lines, beside the cluster."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with driven(process) as listener:
            yield listener


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name)
        os.environ.update({k: v for k, v in before.items() if k in variables})


def _config(address: str) -> dict[str, Any]:
    node = {"CPU": 8, "GPU": 4, "object_store_memory": 100 * 1024 * 1024}
    steps = ("initialization_commands", "setup_commands", "head_setup_commands")
    more = ("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    lists = (*steps, *more, "cluster_synced_files", "rsync_exclude", "rsync_filter")
    return {
        "cluster_name": "fake",
        "max_workers": MOST_NODES,
        "upscaling_speed": 100,
        "idle_timeout_minutes": IDLE_S / 60,
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,  # All its nodes are at one address.
            "gcs_address": address,
            "head_node_id": HEAD_ID,
        },
        "available_node_types": {
            HEAD_TYPE: {"resources": {"CPU": 4}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": node,
                "node_config": {},
                "min_workers": 0,
                "max_workers": MOST_NODES,
            },
        },
        "head_node_type": HEAD_TYPE,
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "auth": {},
        "docker": {},
        **{name: [] for name in lists},
    }
