"""The body of a replica's actor: a `HostPool`, and the word of it to the level above.

The replica is as healthy as the least healthy of its hosts, and dies with the first of them. It
knows that from its own manager, so its owner's poll costs one call, however many hosts there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from dataclasses import replace

import anyio

from pool.cluster.body import Bulletin, Context
from pool.cluster.interface import Actor, Fault, Identity, News, Reservation
from pool.errors import MemberFailed, SizeUnreachable, StartFailed
from pool.host.info import ReplicaInfo
from pool.planning.drain import child_budget
from pool.planning.restart import Cause, Failure
from pool.replica.host_pool import HostPlan, HostPool


class Replica:
    """Hold the node hosts of one replica together.

    Args:
        identity: Whom the replica belongs to.
        plan: What its hosts are.
        reservation: The placement group whose bundles the hosts are for.
    """

    def __init__(self, identity: Identity, plan: HostPlan, reservation: Reservation) -> None:
        self._identity = identity
        self._plan = plan
        self._reservation = reservation
        self._bulletin = Bulletin()
        self._hosts: HostPool | None = None
        self._running: asyncio.Task[None] | None = None
        self._close = asyncio.Event()
        self._info: ReplicaInfo | None = None
        self._stale: tuple[float, float] | None = None

    async def start(self, context: Context) -> ReplicaInfo:
        """Bring every host up; the replica is ready when all are, or not at all.

        Raises:
            StartFailed: A host did not get ready, with its own reason.
        """
        ready: asyncio.Future[ReplicaInfo] = asyncio.get_running_loop().create_future()
        # The manager lives in a task of its own: a task group is entered and left by one task.
        self._running = asyncio.create_task(self._run(context, ready))
        return await ready

    async def _run(self, context: Context, ready: asyncio.Future[ReplicaInfo]) -> None:
        try:
            async with HostPool(
                self._identity,
                self._plan,
                self._reservation,
                context.cluster,
                on_failed=self._fail,
                on_notices=self._bulletin.publish,
                lease_left_s=context.lease_left_s,
            ) as hosts:
                self._hosts = hosts
                await self._bring_up(hosts, context, ready)
                hosts.on_change(functools.partial(self._tell_change, hosts, context))
                await self._close.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    async def _bring_up(
        self, hosts: HostPool, context: Context, ready: asyncio.Future[ReplicaInfo]
    ) -> None:
        count = len(self._reservation.nodes)
        # Its failures, which are read below, say more than that there are none.
        with contextlib.suppress(SizeUnreachable):
            await hosts.scale(count, timeout_s=None)
        infos = [member.info for member in hosts.members(serving=True) if member.info is not None]
        if len(infos) == count:
            self._info = ReplicaInfo(tuple(infos), context.node_id)
            ready.set_result(self._info)
        else:
            failure = hosts.failures[0]
            ready.set_exception(
                StartFailed(self._identity.member, failure.cause, _told(failure), failure.delay_s)
            )

    def _tell_change(self, hosts: HostPool, context: Context) -> None:
        """Say when a host is missing, and who they are when they are whole again."""
        members = [member for member in hosts.members() if member.rank is not None]
        missing = [f"host {m.slot} is {m.state}" for m in members if not m.state.is_serving]
        infos = tuple(member.info for member in members if member.info is not None)
        if missing or len(infos) < len(self._reservation.nodes):
            self._bulletin.tell("; ".join(missing) or "a host is missing")
        elif (info := ReplicaInfo(infos, context.node_id)) != self._info:
            self._info = info
            self._bulletin.tell("", info)
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
        hosts = self._hosts
        if hosts is None or not hosts.polled_at:
            return
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
        await self._tell_hosts("drain", budget_s, budget_s=budget_s)

    async def restore(self) -> None:
        """Let every host take work again.

        Raises:
            MemberFailed: It is being put down; there is no way back from that.
        """
        if self._close.is_set():
            detail = "it is being put down already"
            raise MemberFailed(self._identity.member, Cause.CRASH, detail)
        await self._tell_hosts("restore", budget_s=self._plan.policies.drain.timeout_s)

    async def _tell_hosts(self, method: str, *args: float, budget_s: float) -> None:
        hosts = self._hosts
        if hosts is None:
            return
        async with anyio.create_task_group() as tasks:
            for actor in hosts.handles():
                tasks.start_soon(_call, hosts, actor, method, args, budget_s)

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        """Close the host pool: the same ladder, one level down, with less time.

        Returns:
            What went wrong with which host.
        """
        hosts, running = self._hosts, self._running
        if hosts is None or running is None:
            return ()
        hosts.limit_close(child_budget(budget_s))
        self._close.set()
        with anyio.fail_after(budget_s):
            await asyncio.wait([running])
        return [
            f"host {report.slot}: {trouble}"
            for report in hosts.reports
            for trouble in report.troubles
        ]


def _told(failure: Failure) -> str:
    return f"host {failure.slot}: {failure.detail}"


async def _call(
    hosts: HostPool, actor: Actor, method: str, args: tuple[float, ...], budget_s: float
) -> None:
    await hosts.cluster.call(actor, method, *args, timeout_s=budget_s)
