"""The environment variables by which the processes of a job find each other.

Addresses are those of the hosts that are meant, and ports are leased on those hosts, so that two
jobs on one node never get the same one (INV-12).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import anyio

from pool.cluster.interface import Cluster
from pool.errors import ConfigError
from pool.host.info import HostInfo

Scope = Literal["replica", "pool"]
PORT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """Say where a host stands among those that a call goes to.

    Args:
        replica: The number of its replica, from 0, without gaps.
        host: The host.
    """

    replica: int
    host: HostInfo


class Rendezvous(ABC):
    """Build the environment of each host of a broadcast."""

    @abstractmethod
    async def build(self, cluster: Cluster, places: Sequence[Place]) -> list[dict[str, str]]:
        """Return one environment for each place, in order. Ports are leased on the way."""


def torch(scope: Scope = "replica", *, port: int | None = None) -> Rendezvous:
    """Describe the environment that `torch.distributed` reads (`env://`), one process a host.

    It sets `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `GROUP_RANK`, `MASTER_ADDR` and
    `MASTER_PORT`, as torchrun does.

    Args:
        scope: `replica` makes each replica a world of its own; `pool` makes one of all.
        port: The port on each world's first host; leased there when left out.

    Raises:
        ConfigError: Scope or port cannot be right.
    """
    if scope not in ("replica", "pool"):
        raise ConfigError(f"scope is {scope!r}; give 'replica' or 'pool'", "scope")
    if port is not None and not 0 < port < 65_536:
        raise ConfigError(f"port is {port!r}; give 1 to 65535, or leave it out", "port")
    return _Torch(scope, port)


@dataclass(frozen=True, slots=True)
class _Torch(Rendezvous):
    scope: Scope
    port: int | None

    async def build(self, cluster: Cluster, places: Sequence[Place]) -> list[dict[str, str]]:
        worlds: dict[int, list[int]] = {}
        for number, place in enumerate(places):
            worlds.setdefault(place.replica if self.scope == "replica" else 0, []).append(number)
        ports = dict.fromkeys(worlds, self.port)

        async def lease(world: int) -> None:
            master = places[worlds[world][0]].host
            ports[world] = await cluster.call(master.actor, "lease_port", timeout_s=PORT_TIMEOUT_S)

        if self.port is None:
            async with anyio.create_task_group() as tasks:
                for world in worlds:
                    tasks.start_soon(lease, world)
        environments: list[dict[str, str]] = [{} for _ in places]
        for world, members in worlds.items():
            for rank, number in enumerate(members):
                environments[number] = {
                    "RANK": str(rank),
                    "WORLD_SIZE": str(len(members)),
                    "LOCAL_RANK": "0",
                    "LOCAL_WORLD_SIZE": "1",
                    "GROUP_RANK": str(rank),
                    "MASTER_ADDR": places[members[0]].host.address,
                    "MASTER_PORT": str(ports[world]),
                }
        return environments
