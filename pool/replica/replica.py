"""The body of a replica's actor: a `HostPool`, and the word of it to the level above.

The replica is as healthy as the least healthy of its hosts, and dies with the first of them. It
knows that from its own manager, so its owner's poll costs one call, however many hosts there are.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import replace

from pool.cluster.body import Bulletin, Context
from pool.cluster.interface import Fault, Identity, News, Reservation
from pool.errors import MemberFailed
from pool.host.info import HostInfo, ReplicaInfo
from pool.host.plan import HostPlan
from pool.manager.nest import Nest
from pool.planning.restart import Cause
from pool.replica.host_pool import HostPool
from pool.replica.workers import Workers, start_workers


class Replica:
    """Hold the node hosts of one replica together.

    Args:
        identity: Whom the replica belongs to.
        plan: What its hosts are.
        reservation: The placement group whose bundles the hosts are for.
        workers: What it has on its hosts.
    """

    def __init__(
        self,
        identity: Identity,
        plan: HostPlan,
        reservation: Reservation,
        workers: Workers,
    ) -> None:
        self._identity = identity
        self._plan = plan
        self._reservation = reservation
        self._workers = workers
        self._bulletin = Bulletin()
        self._nest: Nest[HostPool] | None = None
        self._hosts: tuple[HostInfo, ...] = ()
        self._stale: tuple[float, float] | None = None

    async def start(self, context: Context) -> ReplicaInfo:
        """Bring every host up; the replica is ready when all are, or not at all.

        Raises:
            StartFailed: A host did not get ready, with its own reason.
        """
        hosts = HostPool(
            self._identity,
            self._plan,
            self._reservation,
            context.cluster,
            on_failed=self._fail,
            on_notices=self._bulletin.publish,
            lease_left_s=context.lease_left_s,
        )
        self._nest = Nest(hosts)
        self._hosts = tuple(await self._nest.bring_up(len(self._reservation.nodes)))
        staffed = await start_workers(context.cluster, self._hosts, self._workers)
        hosts.on_change(functools.partial(self._tell_change, hosts, context))
        self._tell_change(hosts, context)
        return ReplicaInfo(staffed, context.node_id)

    def _tell_change(self, hosts: HostPool, context: Context) -> None:
        """Say when a host is missing, and who they are when they are whole again."""
        members = [member for member in hosts.members() if member.rank is not None]
        missing = [f"host {m.slot} is {m.state}" for m in members if not m.state.is_serving]
        infos = tuple(member.info for member in members if member.info is not None)
        if missing or len(infos) < len(self._reservation.nodes):
            self._bulletin.tell("; ".join(missing) or "a host is missing")
        elif infos != self._hosts:
            self._hosts = infos
            self._bulletin.tell("", ReplicaInfo(infos, context.node_id))
        else:
            self._bulletin.tell("")

    def _fail(self, host: int, fault: Fault) -> None:
        self._bulletin.fail(replace(fault, detail=f"host {host}: {fault.detail}"))

    async def check_health(self) -> None:
        """Say whether this replica's own manager looks after its hosts.

        It runs on a thread of its own and only reads what the manager's loop wrote, and it says
        so when that loop has not moved for too long.

        Raises:
            MemberFailed: The manager's loop is stuck. What it finds out of hosts is told as news.
        """
        if self._nest is None or not self._nest.pool.polled_at:
            return
        hosts = self._nest.pool
        # NB: this loop and the manager's count from the same monotonic clock.
        now = asyncio.get_running_loop().time()
        health = self._plan.policies.health
        limit_s = health.period_s + 2 * health.timeout_s
        if now - hosts.polled_at > limit_s:
            # A process that stood still finds all it knows old, and has to be given the time to
            # look again before that is held against it (INV-9).
            if self._stale is None or self._stale[0] != hosts.polled_at:
                self._stale = (hosts.polled_at, now)
            if now - self._stale[1] > health.period_s:
                age_s = now - hosts.polled_at
                detail = (
                    f"its hosts were last polled {age_s:.1f} s ago, {limit_s:.1f} s are allowed"
                )
                raise MemberFailed(self._identity.member, Cause.UNHEALTHY, detail)

    async def lifeline(self, seen: int) -> News:
        """Wait for news, or for the failure of a host."""
        return await self._bulletin.after(seen)

    async def drain(self, budget_s: float) -> None:
        """Let every host finish its work in flight; all at once."""
        if self._nest is not None:
            await self._nest.drain(budget_s)

    async def restore(self) -> None:
        """Let every host take work again.

        Raises:
            MemberFailed: It is being put down; there is no way back from that.
        """
        if self._nest is None:
            return
        if self._nest.is_closing:
            detail = "it is being put down already"
            raise MemberFailed(self._identity.member, Cause.CRASH, detail)
        await self._nest.restore()

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        """Close the host pool, and return what went wrong with which host."""
        return () if self._nest is None else await self._nest.close(budget_s)
