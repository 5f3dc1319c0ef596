"""What does the work in a replica besides its hosts, and how it is started, once they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pool.cluster.at_once import at_once
from pool.cluster.interface import Cluster
from pool.errors import ConfigError
from pool.host.info import HostInfo
from pool.rendezvous.base import Place, Rendezvous, check_rendezvous
from pool.rendezvous.ports import PortBook
from pool.replica.ranks import Ranks, start_ranks

if TYPE_CHECKING:
    from pool.process.managed import ProcessStatus
    from pool.process.spec import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Say what every replica has on its hosts.

    Args:
        ranks: Its rank actors.
        processes: The processes that each host has.
        rendezvous: Builds the environment by which the processes of a replica find each other.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    ranks: Ranks | None = None
    processes: tuple[Process, ...] = ()
    rendezvous: Rendezvous | None = None

    def __post_init__(self) -> None:
        if self.ranks is not None and not isinstance(self.ranks, Ranks):
            raise ConfigError(f"ranks is {self.ranks!r}; give a pool.Ranks", "ranks")
        check_rendezvous(self.rendezvous, "rendezvous")
        if self.rendezvous is not None and not self.processes:
            raise ConfigError(
                "rendezvous is given without processes; rank actors have theirs in pool.Ranks",
                "rendezvous",
            )
        if self.processes:
            _check_processes(self.processes)

    @property
    def is_gang(self) -> bool:
        """Whether the workers of a replica know of each other, and none can be started again."""
        return self.ranks is not None or self.rendezvous is not None

    @property
    def of_each_host(self) -> tuple[Process, ...]:
        """The processes that a host starts by itself, as they need to know of no other host."""
        return self.processes if self.rendezvous is None else ()


def _check_processes(processes: Sequence[Process]) -> None:
    from pool.process.spec import Process  # Only for whoever has processes.

    for process in processes:
        if not isinstance(process, Process):
            raise ConfigError(f"processes has {process!r}; give pool.Process values", "processes")
    names = [process.name for process in processes]
    if len(set(names)) < len(names):
        raise ConfigError(f"processes are called {names}; give each its own name", "processes")


async def start_workers(
    cluster: Cluster, hosts: Sequence[HostInfo], workers: Workers
) -> tuple[HostInfo, ...]:
    """Start what a replica has on its hosts, and return them with it.

    Args:
        cluster: The cluster that the hosts run on.
        hosts: All hosts of the replica, in order.
        workers: What they are to have.

    Raises:
        StartFailed: A rank actor did not get ready, with its own reason.
        Exception: What a constructor raised, or why a process did not get ready.
    """
    # The ports are the workers' for as long as they live, and go back with their hosts.
    ports = PortBook(cluster)
    staffed = tuple(hosts)
    if workers.rendezvous is not None:
        staffed = await _start_processes(cluster, staffed, workers, workers.rendezvous, ports)
    if workers.ranks is not None:
        staffed = await start_ranks(cluster, staffed, workers.ranks, ports)
    return staffed


async def _start_processes(
    cluster: Cluster,
    hosts: tuple[HostInfo, ...],
    workers: Workers,
    rendezvous: Rendezvous,
    ports: PortBook,
) -> tuple[HostInfo, ...]:
    environments = await rendezvous.build(cluster, [Place(0, host) for host in hosts], ports)
    started: list[tuple[ProcessStatus, ...]] = [()] * len(hosts)

    async def start(index: int) -> None:
        started[index] = await cluster.call(
            hosts[index].actor, "start_processes", workers.processes, environments[index]
        )

    await at_once(start, len(hosts))
    return tuple(replace(host, processes=found) for host, found in zip(hosts, started, strict=True))
