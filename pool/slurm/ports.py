"""Which ports the parts of a cluster listen at: a table, pure, and checked for collisions.

All lie below the ephemeral range, from which the kernel gives ports to anybody's connections: one
in there is free when it is looked at and taken a moment later. Linux begins it at 32768, some sites
at 9000, so the table ends below that, and each node compares it with its own kernel.

Two jobs may share a node. So the table has several *blocks*, of which each node takes one for
itself: the first whose port `call` can be bound and whose others are free. Binding is atomic and
ends with the process, so there is no file to go stale. Ray tells its nodes each other's ports;
those of the head go by way of the head's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pool.errors import ConfigError

OFFSETS: Mapping[str, int] = {
    "call": 0,
    "gcs": 1,
    "client": 2,
    "dashboard": 3,
    "node_manager": 4,
    "object_manager": 5,
    "runtime_env_agent": 6,
    "agent_grpc": 7,
    "agent_http": 8,
    "metrics": 9,
    "autoscaler_metrics": 10,
    "dashboard_metrics": 11,
}
"""What listens at which port of a block. `call` is the roll call's, and a node's claim."""

WORKER_PORTS_LEAST = 100
"""Each worker process of Ray takes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The ports of one node.

    Args:
        number: Which block of the table.
        named: The ports of what there is once on a node.
        worker_min: The first of those for Ray's worker processes.
        worker_max: The last.
    """

    number: int
    named: Mapping[str, int]
    worker_min: int
    worker_max: int

    def __getitem__(self, name: str) -> int:
        return self.named[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The table.

    Args:
        base: The first port of the first block; see `OFFSETS`.
        workers: The first port for Ray's worker processes.
        worker_count: How many of those each block has.
        blocks: How many blocks there are: as many jobs can share a node.

    Raises:
        ConfigError: Ports would collide, be privileged, or be none.
    """

    base: int = 1200
    workers: int = 2000
    worker_count: int = 1000
    blocks: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.blocks <= 64:
            raise ConfigError(f"ports.blocks is {self.blocks}; give 1 to 64", "ports.blocks")
        if self.worker_count < WORKER_PORTS_LEAST:
            raise ConfigError(
                f"ports.worker_count is {self.worker_count}; give {WORKER_PORTS_LEAST} or more",
                "ports.worker_count",
            )
        named, workers = self.spans()
        for name, span in (("base", named), ("workers", workers)):
            if span.start < 1024 or span.stop > 65536:
                raise ConfigError(
                    f"ports.{name} gives {span.start} to {span.stop - 1}; stay between 1024 and "
                    "65535",
                    f"ports.{name}",
                )
        if named.start < workers.stop and workers.start < named.stop:
            raise ConfigError(
                f"the ports {named.start} to {named.stop - 1} of nodes collide with "
                f"{workers.start} to {workers.stop - 1} of worker processes; move ports.base or "
                "ports.workers",
                "ports.base",
            )

    def spans(self) -> tuple[range, range]:
        """Return all ports of the blocks, and all of worker processes."""
        return (
            range(self.base, self.base + self.blocks * len(OFFSETS)),
            range(self.workers, self.workers + self.blocks * self.worker_count),
        )

    def block(self, number: int) -> Block:
        """Return one of the blocks."""
        base = self.base + number * len(OFFSETS)
        first = self.workers + number * self.worker_count
        return Block(
            number=number,
            named={name: base + offset for name, offset in OFFSETS.items()},
            worker_min=first,
            worker_max=first + self.worker_count - 1,
        )

    def calls(self) -> tuple[int, ...]:
        """Return where a roll call can be, the likeliest first."""
        return tuple(self.block(number)["call"] for number in range(self.blocks))


def in_ephemeral_range(ports: Ports, first: int, last: int) -> str:
    """Say which ports the kernel may give to others.

    Args:
        ports: The table.
        first: Where the range begins, as in /proc/sys/net/ipv4/ip_local_port_range.
        last: Where it ends.

    Returns:
        What is wrong and what to do; nothing if all is well.
    """
    for name, span in zip(("base", "workers"), ports.spans(), strict=True):
        if span.start <= last and first < span.stop:
            return (
                f"ports {span.start} to {span.stop - 1} (ports.{name}) are in the range from which "
                f"the kernel gives ports to connections, {first} to {last}; move them"
            )
    return ""
