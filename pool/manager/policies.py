"""The policies of a pool in one value, as its manager keeps them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pool.errors import ConfigError
from pool.planning.drain import DrainPolicy
from pool.planning.health import HealthPolicy
from pool.planning.restart import RestartPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Hold how a pool treats its members.

    Args:
        health: How members are polled, and when one counts as failed.
        restart: How often, and how soon, a failed member is started again.
        drain: How long members may take to leave.
        surge: How many members more than desired may live while replacements come first.
        start_timeout_s: Seconds from a member's actor to ready.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    health: HealthPolicy = field(default_factory=HealthPolicy)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    drain: DrainPolicy = field(default_factory=DrainPolicy)
    surge: int = 1
    start_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        kinds = {"health": HealthPolicy, "restart": RestartPolicy, "drain": DrainPolicy}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ConfigError(f"{name} is {value!r}; give a {kind.__name__}", name)
        if type(self.surge) is not int or self.surge < 0:
            raise ConfigError(f"surge is {self.surge!r}; give a whole number, 0 or more", "surge")
        limit = self.start_timeout_s
        if not isinstance(limit, int | float) or not 0 < limit < math.inf:
            raise ConfigError(
                f"start_timeout_s is {limit!r}; give more than 0 seconds", "start_timeout_s"
            )
