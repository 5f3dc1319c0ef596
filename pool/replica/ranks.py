"""`Ranks`: rank actors as part of every replica, and how they are started in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pool.cluster.at_once import at_once
from pool.cluster.interface import Cluster
from pool.errors import ConfigError
from pool.host.info import HostInfo, RankInfo
from pool.planning.environment import check_environment
from pool.planning.resources import as_whole
from pool.rendezvous.base import Place, Rendezvous
from pool.rendezvous.ports import PortBook
from pool.rendezvous.torch import torch


@dataclass(frozen=True, slots=True)
class Ranks:
    """Say which rank actors a replica has: objects of one class, one process for each device.

    All of a replica's rank actors are one world. They start together, on every host, once all hosts
    are there; the replica is ready when every object is made, and lost with the first of them that
    dies. Each has its part of its host's bundle, with its devices; local ranks follow the devices.
    Its environment is complete before your class is loaded: torch and JAX read it when they are
    imported. Plain methods of an object run one after the other, in one thread.

    Your class needs nothing of this package. If it has them, `start()` is called after its
    constructor, `check_health()` with every poll, on a thread of its own, and `shutdown()` when the
    replica is put down; each may be plain or async.

    Args:
        worker: Your class.
        args: Its constructor's arguments.
        kwargs: Its constructor's keyword arguments.
        per_host: How many a host has; None for one per device, and one where there is none.
        rendezvous: Builds the environment by which they find each other; `rendezvous.torch()` when
            left out.
        env: Further environment variables, the same for all.
        runtime_env: Ray's runtime environment. None starts them fastest.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    worker: type
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    per_host: int | None = None
    rendezvous: Rendezvous = field(default_factory=torch)
    env: Mapping[str, str] = field(default_factory=dict)
    runtime_env: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.worker, type):
            raise ConfigError(f"worker is {self.worker!r}; give a class", "worker")
        if self.per_host is not None:
            as_whole(self.per_host, "per_host", at_least=1)
        if not isinstance(self.rendezvous, Rendezvous):
            raise ConfigError(
                f"rendezvous is {self.rendezvous!r}; give one of pool.rendezvous, as "
                "rendezvous.torch()",
                "rendezvous",
            )
        check_environment(self.env, "env")


async def start_ranks(
    cluster: Cluster, hosts: Sequence[HostInfo], ranks: Ranks, ports: PortBook
) -> tuple[HostInfo, ...]:
    """Start the rank actors of a replica, and return its hosts with them.

    Args:
        cluster: The cluster that the hosts run on.
        hosts: All hosts of the replica, in order.
        ranks: What their rank actors are.
        ports: Where the ports of their rendezvous are leased, for as long as they live.

    Raises:
        StartFailed: One did not get ready, with its own reason.
        Exception: What a constructor raised.
    """
    # Not imported above: the manager below it has been imported only where there are ranks.
    from pool.host.ranks import RankSpec

    spec = RankSpec(
        count=ranks.per_host,
        label=ranks.worker.__name__,
        variables=dict(ranks.env),
        runtime_env=ranks.runtime_env,
    )
    local: list[tuple[RankInfo, ...]] = [()] * len(hosts)

    async def bring_up(index: int) -> None:
        local[index] = await cluster.call(hosts[index].actor, "bring_up_ranks", spec)

    await at_once(bring_up, len(hosts))
    places = [
        Place(0, host, number, len(found))
        for host, found in zip(hosts, local, strict=True)
        for number in range(len(found))
    ]
    environments = await ranks.rendezvous.build(cluster, places, ports)
    frozen = cluster.freeze((ranks.worker, ranks.args, dict(ranks.kwargs)))
    firsts = [sum(map(len, local[:index])) for index in range(len(hosts))]

    async def begin(index: int) -> None:
        first = firsts[index]
        mine = environments[first : first + len(local[index])]
        local[index] = await cluster.call(hosts[index].actor, "begin_ranks", frozen, mine, first)

    await at_once(begin, len(hosts))
    return tuple(replace(host, ranks=found) for host, found in zip(hosts, local, strict=True))
