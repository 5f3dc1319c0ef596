"""What the replicas of a pool are made from: shape, code, environment. A roll changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pool.errors import ConfigError
from pool.host.host_class import check_host_class
from pool.host.plan import HostPlan
from pool.planning.shape import ReplicaShape
from pool.replica.workers import Workers


@dataclass(frozen=True, slots=True)
class Revision:
    """Hold one revision of a pool.

    Args:
        shape: What one replica needs.
        hosts: What its hosts are.
        workers: What it has on its hosts.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    shape: ReplicaShape
    hosts: HostPlan
    workers: Workers = field(default_factory=Workers)

    def __post_init__(self) -> None:
        if not isinstance(self.shape, ReplicaShape):
            raise ConfigError(
                f"shape is {self.shape!r}; give a ReplicaShape, for example "
                "ReplicaShape(devices=8) or ReplicaShape(cpus=2)",
                "shape",
            )
        runtime_env: object = self.hosts.runtime_env
        if runtime_env is not None and not isinstance(runtime_env, dict):
            raise ConfigError(
                f"runtime_env is {runtime_env!r}; give a dict of Ray's, as in "
                '{"pip": ["x"]} or {"env_vars": {"NAME": "value"}}',
                "runtime_env",
            )
        check_host_class(self.hosts.host_class, self.hosts.host_args)
        if self.workers.is_gang and self.hosts.policies.restart.intensity:
            raise ConfigError(
                "host_restart is given together with workers that know of each other (ranks, or "
                "processes with a rendezvous), which do not outlive the loss of a host; leave "
                "host_restart out",
                "host_restart",
            )
        # The hosts know what they need of the rest.
        hosts = replace(self.hosts, device=self.shape.device, processes=self.workers.of_each_host)
        object.__setattr__(self, "hosts", hosts)

    def changed(self, changes: Mapping[str, Any]) -> Revision:
        """Return a revision that differs in what is given by name; None changes nothing."""
        given = {name: value for name, value in changes.items() if value is not None}
        return Revision(
            given.get("shape", self.shape),
            _changed(self.hosts, given),
            _changed(self.workers, given),
        )


def _changed(part: Any, given: Mapping[str, Any]) -> Any:
    names = {each.name for each in fields(part)}
    return replace(part, **{name: value for name, value in given.items() if name in names})
