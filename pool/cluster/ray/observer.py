"""Look at a Ray cluster from any machine that reaches its GCS, without being a driver.

A driver has to be on a node of the cluster, registers a job, and has a raylet start processes for
it. Whoever only looks needs the GCS's tables and its key-value store, and a connection to it takes
milliseconds.

Limits: one cluster for each process, as with `ray.init`. Actors are found by name alone: what is
found here cannot be called.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anyio.to_thread
import ray

from pool.cluster.interface import Actor, Found, Identity, Observer
from pool.cluster.ray import inventory, private
from pool.cluster.ray.deaths import first_line
from pool.cluster.ray.topology import ray_topology
from pool.errors import ConfigError, SourceUnavailable
from pool.planning.topology import Topology

CONNECT_TIMEOUT_S = 5.0

T = TypeVar("T")


class RayObserver(Observer):
    """Look at a Ray cluster.

    Args:
        client: A client of its GCS; by default that of this process, which is connected to Ray.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = private.gcs_client() if client is None else client

    async def topology(self) -> Topology:
        return await ask(ray_topology)

    async def draining(self) -> Mapping[str, float | None]:
        nodes = await ask(private.draining_nodes)
        return {node: ms / 1000 if ms else None for node, ms in nodes.items()}

    async def inventory(self, pool: str | None = None, instance: str | None = None) -> list[Found]:
        return await ask(inventory.inventory, pool, instance, _without_handle)

    async def is_gone(self, process: str) -> bool:
        return await ask(inventory.is_gone, process)

    async def publish(self, values: Mapping[str, bytes]) -> None:
        await ask(private.publish, self._client, values)

    async def published(self, prefix: str) -> Mapping[str, bytes]:
        return await ask(private.published, self._client, prefix)

    async def withdraw(self, prefix: str) -> None:
        await ask(private.withdraw, self._client, prefix)

    def unix_time(self) -> float:
        return time.time()


async def ask(question: Callable[..., T], *args: Any) -> T:
    """Ask the GCS something, in a thread.

    Raises:
        SourceUnavailable: It did not answer.
    """
    try:
        # Whoever gives up waiting for a GCS that is away must not be held by the thread.
        return await anyio.to_thread.run_sync(
            functools.partial(question, *args), abandon_on_cancel=True
        )
    except Exception as error:
        raise SourceUnavailable(f"Ray's GCS did not answer: {error!r}") from error


def observe(address: str | None = None) -> RayObserver:
    """Look at the cluster at an address; nothing is started, and nothing printed.

    Args:
        address: Where the GCS is, as `host:port`; None looks at RAY_ADDRESS, and then for a cluster
            on this machine. A process that is connected to Ray looks at its own cluster.

    Raises:
        ConfigError: It is no address, no cluster is known of, or nobody answers there.
    """
    found = _find(address)
    if ray.is_initialized():
        if found is not None and found != ray.get_runtime_context().gcs_address:
            own = ray.get_runtime_context().gcs_address
            raise ConfigError(f"this process is connected to {own}, not to {found}", "address")
        return RayObserver()
    assert found is not None
    _check_answers(found)
    try:
        client = private.look_at(found)
    except Exception as error:
        raise ConfigError(
            f"the cluster at {found} does not let this process in: {first_line(error)}", "address"
        ) from error
    return RayObserver(client)


def join(address: str | None = None) -> None:
    """Connect this process to a cluster as a driver, quietly, unless it is connected.

    Raises:
        ConfigError: As `observe`; or this machine is no node of the cluster.
    """
    if ray.is_initialized():
        return
    found = _find(address)
    assert found is not None
    _check_answers(found)
    try:
        ray.init(
            address=found,
            namespace=inventory.NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except Exception as error:
        raise ConfigError(
            f"this machine cannot join the Ray cluster at {found}: {error}; do it on one of the "
            "cluster's nodes",
            "address",
        ) from error


_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}")


def _find(address: str | None) -> str | None:
    given = address or os.environ.get("RAY_ADDRESS")
    if address is None and ray.is_initialized():
        return None
    if given not in (None, "auto") and not _ADDRESS.fullmatch(given):
        raise ConfigError(
            f"the address is {given!r}; give that of the cluster's GCS, as host:port (on the head "
            "node, port 6379 by default)",
            "address",
        )
    try:
        found = private.find_address(address)
    except (ConnectionError, ValueError, OSError) as error:
        found, why = None, str(error).rstrip(".")
    else:
        why = "none runs on this machine"
    if found is None:
        raise ConfigError(
            f"no Ray cluster was found: {why}; give its address as host:port, with --address or "
            "in RAY_ADDRESS",
            "address",
        )
    return found


def _check_answers(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would try for 40 s."""
    host, _, port = address.rpartition(":")
    try:
        with contextlib.closing(
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S)
        ):
            return
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"nobody answers at {address}: {error}; is that the address of the cluster's GCS, and "
            "does the cluster still run?",
            "address",
        ) from error


def _without_handle(actor_id: str, name: str, identity: Identity) -> Actor:
    return Actor(actor_id, identity)
