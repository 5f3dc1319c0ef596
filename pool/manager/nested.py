"""`NestedPool`: the same manager inside a member, over what that member is made of.

A replica holds one over its node hosts, and a node host one over its rank actors. It reserves
nothing, for its slots are bundles, or parts of one, of a group that belongs to the level above. By
default its members stand and fall together: the first failure is the failure of the pool, and the
level above decides. Notices are not answered here but told upwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from pool.cluster.interface import Actor, Cluster, Fault, Identity, Lease, Reservation
from pool.errors import PoolFailed
from pool.manager.events import EventKind
from pool.manager.manager import ResourcePoolManager
from pool.manager.member import Incarnation, InfoT
from pool.manager.policies import Policies
from pool.planning.notice import Notice
from pool.planning.restart import RestartPolicy

GANG = RestartPolicy(intensity=0, budgets=dict.fromkeys(RestartPolicy().budgets, 0))
"""Nobody is started again alone: the level above replaces all of them together."""


class NestedPool(ResourcePoolManager[InfoT]):
    """Keep the parts of a member. A subclass says what they are, with `describe_member`.

    Args:
        identity: The member's.
        reservation: The placement group that its parts live in.
        cluster: The world, as seen from the member's actor.
        policies: How the parts are polled, restarted and drained.
        on_failed: Is told which part failed, and why; it must not block.
        on_notices: Is told all notices of all parts when they change; it must not block.
        lease_left_s: Says how long the member itself may live on; its parts get no more.
    """

    failure = EventKind.GANG_FAILED
    is_shown = False
    name_pattern = re.compile(r".+/\d+\.\d+")
    part: ClassVar[str] = "part"
    """What its members are called in sentences."""

    def __init__(
        self,
        identity: Identity,
        reservation: Reservation,
        cluster: Cluster,
        policies: Policies,
        on_failed: Callable[[int, Fault], None],
        on_notices: Callable[[tuple[Notice, ...]], None] = lambda notices: None,
        lease_left_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        super().__init__(
            identity.member,
            cluster=cluster,
            instance=identity.instance,
            policies=replace(policies, surge=0, spares=0),
        )
        self.reservation = reservation
        self._on_failed = on_failed
        self._on_notices = on_notices
        self._lease_left_s = lease_left_s
        self._told: dict[int, tuple[Notice, ...]] = {}
        self.is_leaving = False
        """Whether its parts were told to drain, with the member that they are parts of."""

    def _is_polled(self, member: Incarnation[InfoT]) -> bool:
        return not self.is_leaving and super()._is_polled(member)

    @property
    def lease(self) -> Lease:
        """What parts are granted: no more than their owner has left itself, and a little."""
        return self.policies.lease(self.epoch, self._lease_left_s())

    async def reserve(self, identity: Identity) -> Reservation:
        """Return the group of the level above."""
        return self.reservation

    async def release(self, reservation: Reservation) -> None:
        """Leave the group alone: it is the member's, and its owner removes it."""

    async def find_leftovers(self) -> list[str]:
        """Leave the asking to the outermost pool, which asks for the whole tree at once."""
        return []

    async def open_member(self, actor: Actor, timeout_s: float) -> InfoT:
        """Put the actor, which its own process cannot name, into what it tells of itself."""
        info: Any = await super().open_member(actor, timeout_s)
        told: InfoT = replace(info, actor=actor)
        return told

    def on_pool_failed(self, failure: PoolFailed) -> None:
        """Tell the level above which part failed."""
        slot = self._slots[self.failures[-1].slot]
        assert slot.incarnation is not None
        assert slot.incarnation.fault is not None
        self._on_failed(slot.index, slot.incarnation.fault)

    def take_notices(self, identity: Identity, notices: tuple[Notice, ...]) -> bool:
        """Tell them upwards instead of answering them."""
        self._told[identity.slot] = notices
        self._on_notices(tuple(n for index in sorted(self._told) for n in self._told[index]))
        return False
