"""What the replicas of a pool are made from: shape, code, environment. A roll changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pool.errors import ConfigError
from pool.host.node_host import NodeHost
from pool.host.plan import HostPlan
from pool.planning.shape import ReplicaShape
from pool.replica.ranks import Ranks


@dataclass(frozen=True, slots=True)
class Revision:
    """Hold one revision of a pool.

    Args:
        shape: What one replica needs.
        hosts: What its hosts are.
        ranks: What its rank actors are, if it has any.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    shape: ReplicaShape
    hosts: HostPlan
    ranks: Ranks | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.shape, ReplicaShape):
            raise ConfigError(
                f"shape is {self.shape!r}; give a ReplicaShape, for example "
                "ReplicaShape(devices=8) or ReplicaShape(cpus=2)",
                "shape",
            )
        host = self.hosts.host_class
        if not (isinstance(host, type) and issubclass(host, NodeHost)):
            raise ConfigError(f"host is {host!r}; give a subclass of NodeHost", "host")
        if self.ranks is not None and not isinstance(self.ranks, Ranks):
            raise ConfigError(f"ranks is {self.ranks!r}; give a pool.Ranks", "ranks")
        if self.ranks is not None and self.hosts.policies.restart.intensity:
            raise ConfigError(
                "host_restart is given together with ranks; the rank actors of a replica are one "
                "world, which does not outlive the loss of a host; leave host_restart out",
                "host_restart",
            )
        if self.hosts.device != self.shape.device:
            hosts = replace(self.hosts, device=self.shape.device)
            object.__setattr__(self, "hosts", hosts)

    def changed(
        self,
        shape: ReplicaShape | None,
        host: type[NodeHost] | None,
        host_args: tuple[Any, ...] | None,
        runtime_env: dict[str, Any] | None,
        ranks: Ranks | None,
    ) -> Revision:
        """Return a revision that differs in what is given."""
        given = {"host_class": host, "host_args": host_args, "runtime_env": runtime_env}
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        return Revision(
            self.shape if shape is None else shape,
            replace(self.hosts, **changes),
            self.ranks if ranks is None else ranks,
        )
