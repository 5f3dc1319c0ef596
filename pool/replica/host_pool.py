"""`HostPool`: the same manager, one level down, over the node hosts of one replica."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from pool.cluster.interface import ActorSpec, Cluster, Fault, Identity, Reservation
from pool.host.body import HostBody
from pool.host.info import HostInfo
from pool.host.plan import HostPlace, HostPlan
from pool.manager.nested import GANG, NestedPool
from pool.planning.notice import Notice
from pool.planning.restart import Cause, RestartPolicy

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


class HostPool(NestedPool[HostInfo]):
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
    part = "host"

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
            identity, reservation, cluster, plan.policies, on_failed, on_notices, lease_left_s
        )
        self._host_plan = plan

    async def describe_member(
        self, identity: Identity, reservation: Reservation | None
    ) -> ActorSpec:
        assert reservation is not None
        plan, index = self._host_plan, identity.slot
        return ActorSpec(
            body=HostBody,
            args=(plan, HostPlace(index, reservation)),
            label=plan.host_class.__name__,
            identity=identity,
            holds=plan.holds(reservation.bundles[index]),
            reservation=reservation if plan.knows_devices else None,
            bundle=index,
            node_id=reservation.nodes[index],
            runtime_env=plan.runtime_env,
            own_group=False,
        )
