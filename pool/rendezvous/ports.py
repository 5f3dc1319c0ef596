"""The ports that were leased for one call, and how they are given back.

A book is made for a call, handed to whoever builds its environments, and released when the call is
over. Its name goes with each lease, so that a lease whose answer never came is given back as well.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import anyio

from pool.cluster.interface import Actor, Cluster
from pool.errors import MemberLost, PoolError
from pool.host.info import HostInfo
from pool.log import Word, say

LEASE_TIMEOUT_S = 10.0
RELEASE_TIMEOUT_S = 5.0


class PortBook:
    """Lease ports on hosts, and remember where.

    Args:
        cluster: The cluster that the hosts run on.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._holder = uuid.uuid4().hex
        self._hosts: dict[str, Actor] = {}

    async def lease(self, host: HostInfo) -> int:
        """Lease a port on a host, until `release` or the host's end.

        Args:
            host: The host whose port it is to be.

        Raises:
            CallTimeout: The host did not answer within 10 seconds.
            MemberLost: The host is dead.
            PoolError: No port of the host's node is free.

        After a cancellation, and after an error, `release` gives back what was leased all the same.
        """
        # NB: before the call, so that the host is asked to give back what it leased in vain.
        self._hosts[host.actor.id] = host.actor
        port: int = await self._cluster.call(
            host.actor, "lease_port", self._holder, timeout_s=LEASE_TIMEOUT_S
        )
        return port

    async def lease_each(self, hosts: Sequence[HostInfo]) -> list[int]:
        """Lease a port on each of the hosts, all at once, and return them in order.

        Raises:
            PoolError: As `lease` does; the first that went wrong.
        """
        ports = [0] * len(hosts)

        async def one(number: int) -> None:
            ports[number] = await self.lease(hosts[number])

        try:
            async with anyio.create_task_group() as tasks:
                for number in range(len(hosts)):
                    tasks.start_soon(one, number)
        except BaseExceptionGroup as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None
        return ports

    async def release(self, *, after_calls: bool = False) -> None:
        """Give every port back. Idempotent; it raises nothing.

        A host that is dead gave its ports back with its process. One that does not answer is
        logged, and keeps them until it ends.

        Args:
            after_calls: Whether a host is to keep its ports until the calls that are under way on
                it are over: they may still use them, when whoever waited for them went away.

        A cancellation waits until the hosts have answered, for 5 seconds at most.
        """
        hosts, self._hosts = self._hosts, {}
        if not hosts:
            return
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for actor in hosts.values():
                    tasks.start_soon(self._release, actor, after_calls)

    async def _release(self, actor: Actor, after_calls: bool) -> None:
        try:
            await self._cluster.call(
                actor, "release_ports", self._holder, after_calls, timeout_s=RELEASE_TIMEOUT_S
            )
        except MemberLost:
            pass  # Its leases went with its process.
        except PoolError as error:
            say(Word.PORTS_KEPT, member=actor.identity.member, reason=str(error))
