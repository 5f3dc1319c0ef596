"""A Ray cluster of several nodes on this machine, for as long as a block runs.

Why `ray.cluster_utils` and not `ray.init`: that makes one node, and a pool of gangs over nodes
needs several. These are real ones, each with a raylet of its own; only their GPUs are numbers.

It keeps to itself: its files are in a folder of its own, which is removed at the end, and so the
address that Ray notes for `address="auto"` does not replace that of a cluster you run here.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool.demo.signals import held_signals
from pool.errors import ConfigError

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

MIB = 2**20
REGISTER_TIMEOUT_S = 60

_ENVIRONMENT = {
    # Without it a local cluster wants a token that the nodes started here do not have.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # The coming behaviour for actors without GPUs; the old one warns about itself.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True, slots=True)
class EmbeddedShape:
    """Say what the cluster is made of, besides a head that takes no work.

    Args:
        nodes: How many nodes.
        gpus: Logical GPUs of each.
        cpus: Logical CPUs of each.
    """

    nodes: int = 8
    gpus: int = 4
    cpus: int = 2


@contextmanager
def embedded_cluster(
    shape: EmbeddedShape, progress: Callable[[int], None] = lambda _: None
) -> Iterator[None]:
    """Start a cluster, connect this process to it, and end it all on every way out.

    Call it on the main thread: Ray sets signal handlers.

    Args:
        shape: What it is made of.
        progress: Is told how many nodes were started.

    Raises:
        ConfigError: This process is connected to a Ray cluster, and would lose it.
        KeyboardInterrupt: Ctrl-C or SIGTERM came during the start. Nothing is left of it.
    """
    with ExitStack() as undo:
        undo.enter_context(_environment())
        cluster = _empty_cluster()
        undo.callback(_end, cluster)
        store = 80 * MIB
        with held_signals():
            cluster.add_node(
                num_cpus=0,
                num_gpus=0,
                include_dashboard=False,
                include_log_monitor=False,
                object_store_memory=store,
            )
        for number in range(shape.nodes):
            progress(number)
            with held_signals():
                cluster.add_node(
                    wait=False,
                    num_cpus=shape.cpus,
                    num_gpus=shape.gpus,
                    object_store_memory=store,
                )
        _connect(cluster)
        progress(shape.nodes)
        yield


def _empty_cluster() -> Cluster:
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        raise ConfigError(
            "this process is connected to a Ray cluster, and the demo starts one of its own; "
            "call ray.shutdown() first, or run `pool demo` from a shell"
        )
    # Its worker processes are killed on purpose here; Ray's warnings say what the report says.
    logging.getLogger("ray").setLevel(logging.ERROR)
    return Cluster()


def _connect(cluster: Cluster) -> None:
    import ray

    with held_signals():
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    cluster.wait_for_nodes(timeout=REGISTER_TIMEOUT_S)


def _end(cluster: Cluster) -> None:
    import ray

    with held_signals():
        ray.shutdown()
        # NB: this ends the processes that this cluster started; `ray stop` would end them all.
        cluster.shutdown()


@contextmanager
def _environment() -> Iterator[None]:
    folder = tempfile.mkdtemp(prefix="pool-")
    changed = {**_ENVIRONMENT, "RAY_TMPDIR": folder}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
