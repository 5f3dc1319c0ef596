"""`HostPool`: the same manager, one level down, over the node hosts of one replica.

Its slots are the bundles of the replica's placement group, so it reserves nothing. By default a
gang stands and falls together: the first failure of a host is the failure of this pool, and the
level above decides. Notices are not answered here but told upwards, for one host's notice concerns
the gang.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pool.cluster.interface import (
    NOTHING,
    Actor,
    ActorSpec,
    Cluster,
    Fault,
    Identity,
    Lease,
    Reservation,
)
from pool.errors import PoolFailed
from pool.host.body import HostBody, HostPlace
from pool.host.info import HostInfo
from pool.host.node_host import NodeHost
from pool.manager.events import EventKind
from pool.manager.manager import ResourcePoolManager
from pool.manager.policies import Policies
from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice
from pool.planning.restart import Cause, RestartPolicy

GANG = RestartPolicy(intensity=0, budgets=dict.fromkeys(RestartPolicy().budgets, 0))
"""No host is started again by itself: the whole gang is replaced."""
NODE_CAUSES = (Cause.NODE_LOST, Cause.PREEMPTION, Cause.MAINTENANCE)


def gang_policy(hosts: RestartPolicy | None) -> RestartPolicy:
    """Return the restart policy of a gang's hosts.

    Args:
        hosts: Within which limits a host that died is started again on its node; None replaces
            the whole gang.
    """
    if hosts is None:
        return GANG
    # A gang that lost a node needs another placement group.
    return replace(hosts, budgets={**hosts.budgets, **dict.fromkeys(NODE_CAUSES, 0)})


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """Say what the hosts of a replica are. It is pickled into the replica's actor.

    Args:
        host_class: The user's `NodeHost`.
        host_args: Its constructor's arguments.
        holds_devices: Whether each host sits in its bundle and holds all of it, and so is its own
            worker; otherwise it holds nothing and is pinned to the bundle's node.
        notices: Sources to ask on each node.
        policies: How hosts are polled, restarted and drained, and how long they may take to
            start.
        runtime_env: Ray's runtime environment of the hosts.
    """

    host_class: type[NodeHost]
    host_args: tuple[Any, ...] = ()
    holds_devices: bool = False
    notices: tuple[NodeNoticeSource, ...] = ()
    policies: Policies
    runtime_env: dict[str, Any] | None = None


class HostPool(ResourcePoolManager[HostInfo]):
    """Keep one node host in each bundle of a replica's reservation.

    Args:
        identity: The replica's.
        plan: What the hosts are.
        reservation: The replica's placement group.
        cluster: The world, as seen from the replica's actor.
        on_failed: Is told which host failed, and why; it must not block.
        on_notices: Is told all notices of all hosts when they change; it must not block.
        lease_left_s: Says how long the replica itself may live on; its hosts get no more.
    """

    level = "host"
    failure = EventKind.GANG_FAILED
    name_pattern = re.compile(r".+/\d+\.\d+")

    def __init__(
        self,
        identity: Identity,
        plan: HostPlan,
        reservation: Reservation,
        cluster: Cluster,
        on_failed: Callable[[int, Fault], None],
        on_notices: Callable[[tuple[Notice, ...]], None],
        lease_left_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        super().__init__(
            f"{identity.pool}/{identity.slot}.{identity.generation}",
            cluster=cluster,
            instance=identity.instance,
            policies=replace(plan.policies, surge=0, spares=0),
        )
        self._host_plan = plan
        self._reservation = reservation
        self._on_failed = on_failed
        self._on_notices = on_notices
        self._lease_left_s = lease_left_s
        self._told: dict[int, tuple[Notice, ...]] = {}

    @property
    def lease(self) -> Lease:
        """Leases shrink on the way down: a host has little more than what its replica has left.

        That little is the time to the next poll; by then the replica may have heard from its owner.
        """
        full = super().lease
        return replace(full, lasts_s=min(full.lasts_s, self._lease_left_s() + self.patience_s))

    async def reserve(self, identity: Identity) -> Reservation:
        return self._reservation

    async def release(self, reservation: Reservation) -> None:
        """Leave the group alone: it is the replica's, and its owner removes it."""

    async def find_leftovers(self) -> list[str]:
        """Leave the asking to the pool of replicas, which asks for the whole tree at once."""
        return []

    async def describe_member(
        self, identity: Identity, reservation: Reservation | None
    ) -> ActorSpec:
        assert reservation is not None
        plan = self._host_plan
        index = identity.slot
        place = HostPlace(index, len(reservation.nodes), reservation.bundles[index])
        return ActorSpec(
            body=HostBody,
            args=(plan.host_class, plan.host_args, place, plan.notices),
            label=plan.host_class.__name__,
            identity=identity,
            holds=reservation.bundles[index] if plan.holds_devices else NOTHING,
            reservation=reservation if plan.holds_devices else None,
            bundle=index,
            node_id=reservation.nodes[index],
            runtime_env=plan.runtime_env,
            own_group=False,
        )

    async def open_member(self, actor: Actor, timeout_s: float) -> HostInfo:
        info = await super().open_member(actor, timeout_s)
        return replace(info, actor=actor)

    def on_pool_failed(self, failure: PoolFailed) -> None:
        slot = self._slots[self.failures[-1].slot]
        assert slot.incarnation is not None
        assert slot.incarnation.fault is not None
        self._on_failed(slot.index, slot.incarnation.fault)

    def take_notices(self, identity: Identity, notices: tuple[Notice, ...]) -> bool:
        """Tell them upwards instead of answering them."""
        self._told[identity.slot] = notices
        self._on_notices(tuple(n for index in sorted(self._told) for n in self._told[index]))
        return False
