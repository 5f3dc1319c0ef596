"""What the hosts of a replica are, and which of them one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pool.cluster.interface import NOTHING, Reservation
from pool.host.node_host import NodeHost
from pool.host.ports import DEFAULT_RANGE, PortRange
from pool.manager.policies import Policies
from pool.planning.resources import Resources

if TYPE_CHECKING:
    from pool.host.cleaner import DeviceCleaner
    from pool.notices.source import NodeNoticeSource
    from pool.process.spec import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """Say what the hosts of a replica are. It is pickled into the replica's actor, and theirs.

    Args:
        host_class: The user's `NodeHost`.
        host_args: Its constructor's arguments.
        device: Ray's name of the devices in their bundles.
        holds_devices: Whether each host sits in its bundle and holds all of it, and so is its own
            worker; otherwise it holds nothing, and is pinned to the bundle's node, or, where it is
            its replica, sits in the bundle.
        shares_devices: Whether another role works on the same devices, so that their memory may be
            in use when a worker starts.
        lent: For each host of one replica, the ids of devices by resource that a host of another
            role holds for both; empty where hosts or workers hold their own.
        notices: Sources to ask on each node.
        ports: Which ports of each node may be leased.
        cleaner: Clears devices before anything of a host starts.
        processes: The processes that each host starts, and is lost with.
        policies: How hosts are polled, restarted and drained, and how long they may take to
            start.
        runtime_env: Ray's runtime environment of the hosts.
    """

    host_class: type[NodeHost]
    host_args: tuple[Any, ...] = ()
    device: str = "GPU"
    holds_devices: bool = False
    shares_devices: bool = False
    lent: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    notices: tuple[NodeNoticeSource, ...] = ()
    ports: PortRange = DEFAULT_RANGE
    cleaner: DeviceCleaner | None = None
    processes: tuple[Process, ...] = ()
    policies: Policies
    runtime_env: dict[str, Any] | None = None

    @property
    def knows_devices(self) -> bool:
        """Whether the host itself gives devices to its workers, by their ids; else Ray does."""
        return self.holds_devices or bool(self.lent)

    def holds(self, bundle: Resources) -> Resources:
        """Return what a host itself holds of its bundle."""
        if not self.knows_devices:
            return NOTHING
        if not self.lent:
            return bundle
        # Another role's host holds the devices; this one holds what else the bundle has.
        return Resources({name: n for name, n in bundle.items() if name != self.device})


@dataclass(frozen=True, slots=True)
class HostPlace:
    """Say which host of its replica a host is.

    Args:
        index: The index of its bundle.
        reservation: The replica's placement group.
    """

    index: int
    reservation: Reservation

    @property
    def hosts(self) -> int:
        """How many hosts the replica has."""
        return len(self.reservation.nodes)

    @property
    def bundle(self) -> Resources:
        """What the host's bundle holds."""
        return self.reservation.bundles[self.index]
