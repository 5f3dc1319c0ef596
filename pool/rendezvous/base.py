"""Who is in which world, and at which rank: what every kind of rendezvous counts from.

Purpose: each kind is then a pure function from the places and the ports to one environment a
place; leasing the ports is all that it does with the cluster.

Limits: ranks follow the order of the places, which follows the replicas and, within each, its
hosts. Whoever wants another order gives the places in that order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from pool.cluster.interface import Cluster
from pool.errors import ConfigError
from pool.host.info import HostInfo
from pool.rendezvous.ports import PortBook

Scope = Literal["replica", "pool"]
"""Whether each replica is a world of its own, or all of them together are one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Say where one process stands among those that a call goes to.

    Args:
        replica: The number of its replica, from 0, without gaps.
        host: Its host.
        local_rank: Which process of its host it is, from 0.
        local_size: How many processes its host has.
    """

    replica: int
    host: HostInfo
    local_rank: int = 0
    local_size: int = 1


class Rendezvous(ABC):
    """Build the environment of each process of a call."""

    @abstractmethod
    async def build(
        self, cluster: Cluster, places: Sequence[Place], ports: PortBook
    ) -> list[dict[str, str]]:
        """Return one environment for each place, in order.

        Args:
            cluster: The cluster that the hosts run on.
            places: One for each process; those of one host, and those of one replica, in a row.
            ports: Where ports are leased. Whoever made the book gives them back.

        Raises:
            ConfigError: The places do not fit this kind of rendezvous.
            PoolError: A port could not be leased.
        """


@dataclass(frozen=True, slots=True)
class Seat:
    """Say where a place stands in its world.

    Args:
        number: Which of the places it is.
        rank: Among the places of its world.
        node: Which host of its world it is on, from 0.
    """

    number: int
    rank: int
    node: int


@dataclass(frozen=True, slots=True)
class World:
    """Hold those who find each other.

    Args:
        seats: In the order of ranks.
        nodes: On how many hosts they are.
        first: The host of rank 0, on which the others meet.
    """

    seats: tuple[Seat, ...]
    nodes: int
    first: HostInfo


def worlds(places: Sequence[Place], scope: Scope) -> list[World]:
    """Divide places into worlds.

    A host is one node of its world, also where two hosts are on one machine.

    Args:
        places: One for each process.
        scope: Who belongs together.

    Returns:
        The worlds, in the order of the replicas; for the scope `pool` one, or none of no places.

    Raises:
        ConfigError: The places of a host or of a replica are not in a row, or the ranks or sizes
            within a host are not those of its places.
    """
    hosts = [(key, tuple(group)) for key, group in groupby(enumerate(places), _host_of)]
    if len({key for key, _ in hosts}) != len(hosts):
        raise ConfigError("the places of one host are not in a row; sort them by host", "places")
    for (replica, index), members in hosts:
        ranks = [(place.local_rank, place.local_size) for _, place in members]
        if ranks != [(rank, len(members)) for rank in range(len(members))]:
            raise ConfigError(
                f"host {index} of replica {replica} has the places {ranks} (local rank, local "
                f"size); give it ranks 0 to {len(members) - 1} of {len(members)}, in order",
                "places",
            )
    replicas = [replica for replica, _ in groupby(hosts, lambda host: host[0][0])]
    if replicas != list(range(len(replicas))):
        raise ConfigError(
            f"the places are of the replicas {replicas}; give those of each replica in a row, and "
            "number the replicas 0, 1, 2, ...",
            "places",
        )
    found: list[World] = []
    for _, group in groupby(hosts, lambda host: host[0][0] if scope == "replica" else 0):
        seats: list[Seat] = []
        nodes = [members for _, members in group]
        for node, members in enumerate(nodes):
            for number, _ in members:
                seats.append(Seat(number, len(seats), node))
        found.append(World(tuple(seats), len(nodes), places[seats[0].number].host))
    return found


def check_scope(scope: Scope) -> None:
    """Refuse a scope that is none.

    Raises:
        ConfigError: It is neither `replica` nor `pool`.
    """
    if scope not in ("replica", "pool"):
        raise ConfigError(f"scope is {scope!r}; give 'replica' or 'pool'", "scope")


def check_rendezvous(given: object, field: str) -> None:
    """Refuse what builds no environments. None stands for no rendezvous.

    Raises:
        ConfigError: It is no rendezvous, such as the variables themselves.
    """
    if given is None or isinstance(given, Rendezvous):
        return
    message = f"{field} is {given!r}; give what pool.rendezvous makes, such as rendezvous.torch()"
    if isinstance(given, Mapping):
        message += (
            ", or an object of your own subclass of Rendezvous; variables that are the same "
            "everywhere are RunOptions(env=...) of a run, or the env of a Process"
        )
    raise ConfigError(message, field)


def check_port(port: int | None) -> None:
    """Refuse a port that is none. None stands for a leased one.

    Raises:
        ConfigError: It is no whole number from 1 to 65535.
    """
    if port is not None and (type(port) is not int or not 0 < port < 65_536):
        raise ConfigError(f"port is {port!r}; give 1 to 65535, or leave it out", "port")


def endpoint(address: str, port: int) -> str:
    """Return `address:port`, with an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _host_of(numbered: tuple[int, Place]) -> tuple[int, int]:
    place = numbered[1]
    return (place.replica, place.host.index)
