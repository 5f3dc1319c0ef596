"""What a host's workers are, as actors: in its bundle, or on its node when it holds the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pool.cluster.body import Context
from pool.cluster.interface import NOTHING, ActorSpec, Identity, Lease
from pool.host.allotments import Allotment
from pool.host.plan import HostPlace, HostPlan
from pool.host.worker_body import Portion, WorkerBody


@dataclass(frozen=True, slots=True)
class Staffing:
    """Describe the workers of one host.

    Args:
        plan: What the host is.
        place: Which one it is.
        context: Where it runs.
    """

    plan: HostPlan
    place: HostPlace
    context: Context

    @property
    def lease(self) -> Lease:
        """What workers are granted with each word from the host."""
        return self.plan.policies.lease(left_s=self.context.lease_left_s())

    @property
    def memory_limit_s(self) -> float:
        """Seconds to wait until the memory of a worker's devices is free."""
        return self.plan.policies.start_timeout_s / 2

    def identity(self, level: str, slot: int) -> Identity:
        """Return who a worker is."""
        host = self.context.identity
        return Identity(
            pool=host.member, instance=host.instance, slot=slot, generation=1, level=level
        )

    def worker(
        self,
        body: type[WorkerBody],
        identity: Identity,
        allotment: Allotment,
        *,
        variables: Mapping[str, str],
        runtime_env: dict[str, Any] | None = None,
        label: str,
    ) -> ActorSpec:
        """Describe the actor of a worker.

        Args:
            body: Its class.
            identity: Who it is.
            allotment: What it holds of the bundle.
            variables: The environment variables to set in it.
            runtime_env: Ray's runtime environment.
            label: The name that process lists show.
        """
        in_bundle = not self.plan.knows_devices
        portion = Portion(
            amount=allotment.amount,
            ids=None if in_bundle else allotment.ids,
            memory_limit_s=self.memory_limit_s,
            is_alone=not self.plan.shares_devices,
        )
        return ActorSpec(
            body=body,
            args=(portion, dict(variables)),
            label=label,
            identity=identity,
            holds=allotment.amount if in_bundle else NOTHING,
            reservation=self.place.reservation if in_bundle else None,
            bundle=self.place.index,
            node_id=self.context.node_id,
            runtime_env=runtime_env,
            own_group=False,
            lease=self.lease,
        )
