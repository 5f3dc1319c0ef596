"""What rank actors, node hosts and replicas tell of themselves once they are ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pool.cluster.interface import Actor
from pool.planning.resources import Resources

if TYPE_CHECKING:
    from pool.process.managed import ProcessStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RankInfo:
    """Tell where a rank actor runs and how to reach it.

    Args:
        node_id: The node's id.
        address: The node's address.
        pid: The process id, on that node.
        devices: Resource to the ids of its devices.
        actor: Its actor.
        rank: Which rank of its replica it is, from 0.
        local_rank: Which of the ranks on its host it is, from 0.
        extra: What the object's own `start` returned, if it has one.
    """

    node_id: str
    address: str
    pid: int
    devices: Mapping[str, tuple[str, ...]]
    actor: Actor
    rank: int = 0
    local_rank: int = 0
    extra: Any = None


@dataclass(frozen=True, slots=True)
class HostInfo:
    """Tell where a node host runs and how to reach it.

    Args:
        index: Which host of its replica it is, from 0; the index of its bundle.
        hosts: How many hosts its replica has.
        node_id: The node's id.
        address: The node's address, for others to connect to.
        pid: The process id of its actor, on that node.
        bundle: What its bundle of the reservation holds.
        actor: Its actor.
        extra: What the host's own `start` returned.
        ranks: Its rank actors, by local rank.
        processes: The processes that it was made with, as they were when it got ready.
        devices: The ids of the devices that the host itself gives to its workers, by resource.
    """

    index: int
    hosts: int
    node_id: str
    address: str
    pid: int
    bundle: Resources
    actor: Actor
    extra: Any = None
    ranks: tuple[RankInfo, ...] = ()
    processes: tuple[ProcessStatus, ...] = ()
    devices: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """Tell what a replica is made of.

    Args:
        hosts: Its node hosts, in the order of their bundles.
        node_id: The node that the replica's own actor runs on.
    """

    hosts: tuple[HostInfo, ...]
    node_id: str

    @property
    def ranks(self) -> tuple[RankInfo, ...]:
        """Its rank actors, by rank."""
        return tuple(rank for host in self.hosts for rank in host.ranks)

    @property
    def actors(self) -> tuple[Actor, ...]:
        """Its hosts' actors, and its rank actors. The only host of a replica may be its actor."""
        return (*(host.actor for host in self.hosts), *(rank.actor for rank in self.ranks))
