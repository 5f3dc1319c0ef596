"""Processes that meet at one port on the first host of their world, as torch's and JAX's do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pool.cluster.interface import Cluster
from pool.rendezvous.base import Place, Rendezvous, Scope, check_port, check_scope, worlds
from pool.rendezvous.ports import PortBook

Environments = Callable[[Sequence[Place], Scope, Sequence[int]], list[dict[str, str]]]
"""Returns the environment of each place, given a port for each world."""


@dataclass(frozen=True, slots=True)
class Coordinated(Rendezvous):
    """Lease a port for each world, unless one was given, and tell every place of it.

    Args:
        environments: What places are told.
        scope: Who belongs together.
        port: The port on each world's first host; leased there when None.

    Raises:
        ConfigError: Scope or port cannot be right.
    """

    environments: Environments
    scope: Scope
    port: int | None

    def __post_init__(self) -> None:
        check_scope(self.scope)
        check_port(self.port)

    async def build(
        self, cluster: Cluster, places: Sequence[Place], ports: PortBook
    ) -> list[dict[str, str]]:
        """Return one environment for each place."""
        found = worlds(places, self.scope)
        if self.port is not None:
            given = [self.port] * len(found)
        else:
            given = await ports.lease_each([world.first for world in found])
        return self.environments(places, self.scope, given)
