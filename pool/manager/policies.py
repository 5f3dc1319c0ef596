"""The policies of a pool in one value, as its manager keeps them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pool.cluster.interface import Lease
from pool.cluster.lease import RESPITE_S
from pool.errors import ConfigError
from pool.planning.drain import DrainPolicy
from pool.planning.health import HealthPolicy
from pool.planning.notice_policy import NoticePolicy
from pool.planning.restart import RestartPolicy

POLLS_A_LEASE = 3
"""So many polls in a row have to get lost before a member believes that its owner is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Hold how a pool treats its members.

    Args:
        health: How members are polled, and when one counts as failed.
        restart: How often, and how soon, a failed member is started again.
        drain: How long members may take to leave.
        notices: What follows a notice.
        surge: How many members more than desired may live while replacements come first.
        spares: How many members are kept ready beyond the desired size, to take the place of one
            that is lost or has to leave.
        start_timeout_s: Seconds from a member's actor to ready.
        lease_s: Seconds that a member lives without hearing from its owner. Each health poll is a
            word from the owner, so it has to be long enough for several of them.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    health: HealthPolicy = field(default_factory=HealthPolicy)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    drain: DrainPolicy = field(default_factory=DrainPolicy)
    notices: NoticePolicy = field(default_factory=NoticePolicy)
    surge: int = 1
    spares: int = 0
    start_timeout_s: float = 600.0
    lease_s: float = 60.0

    def __post_init__(self) -> None:
        kinds = {
            "health": HealthPolicy,
            "restart": RestartPolicy,
            "drain": DrainPolicy,
            "notices": NoticePolicy,
        }
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ConfigError(f"{name} is {value!r}; give a {kind.__name__}", name)
        for name in ("surge", "spares"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} is {value!r}; give a whole number, 0 or more", name)
        for name in ("start_timeout_s", "lease_s"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (is_number and 0 < value < math.inf):
                raise ConfigError(f"{name} is {value!r}; give more than 0 seconds", name)
        least_s = POLLS_A_LEASE * (self.health.period_s + self.health.timeout_s)
        if self.lease_s < least_s:
            raise ConfigError(
                f"lease_s is {self.lease_s!r}, and a member hears from its owner with each health "
                f"poll, every {self.health.period_s:g} s; give {least_s:g} s or more, or poll more "
                "often",
                "lease_s",
            )

    @property
    def patience_s(self) -> float:
        """How long a member's next word may take to come, when all is well."""
        return self.health.period_s + self.health.timeout_s + RESPITE_S

    def lease(self, epoch: int = 1, left_s: float = math.inf) -> Lease:
        """Return what a member is granted with each word from its owner.

        Args:
            epoch: Which owner grants it.
            left_s: Seconds that the owner may live on itself. Leases shrink on the way down: a
                member has little more than that. That little is the time to the next poll; by then
                the owner may have heard from its own.
        """
        lasts_s = min(self.lease_s, left_s + self.patience_s)
        return Lease(epoch=epoch, lasts_s=lasts_s, grace_s=self.drain.timeout_s)
