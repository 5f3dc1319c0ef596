"""Health polls, and the leases that they renew: how a manager and its members hear of each other.

A poll is a question and a word at once. What comes back is judged (`pool.planning.health`); what
does not come back is looked into, for silence may be the member's, its node's, or our own (INV-9).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from pool.cluster.interface import Actor, Cluster, Fault, Reply, ReplyKind
from pool.errors import Fenced, SourceUnavailable
from pool.manager.events import EventKind
from pool.manager.member import Incarnation, InfoT
from pool.manager.policies import Policies
from pool.manager.pulse import SILENT, Pulse
from pool.manager.supervisor import Supervisor
from pool.planning.health import Verdict
from pool.planning.lifecycle import State
from pool.planning.restart import Cause

if TYPE_CHECKING:
    from pool.notices.source import ClusterNoticeSource

PATIENCE = 3
"""How many times its time-out a checker may take; who waits for it renews no leases."""


class Vitals(Supervisor[InfoT]):
    """Poll the members, and let them live on."""

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        instance: str,
        policies: Policies,
        sources: Sequence[ClusterNoticeSource],
    ) -> None:
        super().__init__(name, cluster, instance, policies, sources)
        self.polled_at = 0.0
        self._pulse = Pulse(policies.health)
        self._looking_into: set[str] = set()

    def _background(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [*super()._background(), self._poll_forever, self._pulse.keep_time]

    async def _poll_forever(self) -> None:
        tasks = self._tasks
        assert tasks is not None
        while True:
            # A draining member is not polled: it may well be too busy with its end.
            polled = [
                slot
                for slot in self._slots.values()
                if slot.incarnation is not None and self._is_polled(slot.incarnation)
            ]
            members = [slot.incarnation for slot in polled if slot.incarnation is not None]
            actors = [member.actor for member in members if member.actor is not None]
            self._renew_leases()
            with self._pulse.beat() as beat:
                replies = await self._ask_health(actors)
            self.polled_at = anyio.current_time()
            fenced = next((r for r in replies if r.kind is ReplyKind.FENCED), None)
            if fenced is not None:
                self._lose(Fenced(f"pool {self.name!r}", self.epoch, fenced.value))
                return
            if beat.hear(replies) and await self._does_anybody_answer(members, replies):
                beat.bear_witness()
            for slot, member, reply in zip(polled, members, replies, strict=True):
                if slot.incarnation is not member or not self._is_polled(member):
                    continue
                verdict, why = beat.judge(member, reply)
                if verdict is Verdict.FAILED and reply.kind in SILENT:
                    tasks.start_soon(self._judge_silent, member, why)
                elif verdict is Verdict.FAILED:
                    self._note_fault(member, Fault(Cause.UNHEALTHY, why))
                elif verdict is Verdict.SUSPECT and member.state is State.READY:
                    self._advance(member, State.SUSPECT, why)
                elif verdict is not Verdict.HEALTHY or member.news.trouble:
                    continue
                elif member.state is State.SUSPECT:
                    self._advance(member, State.READY, why)
            await self._pulse.rest()

    def _is_polled(self, member: Incarnation[InfoT]) -> bool:
        return member.state.is_up

    async def _does_anybody_answer(
        self, members: Sequence[Incarnation[InfoT]], replies: Sequence[Reply]
    ) -> bool:
        """Find out whether we are cut off ourselves, when no member answered.

        The cluster's own word is enough; where its control is away, that of a silent member's own
        nodes is.
        """
        if await self._does_cluster_answer():
            return True
        for member, reply in zip(members, replies, strict=True):
            if reply.kind in SILENT and not await self._silent_nodes(member):
                return True
        return False

    async def _does_cluster_answer(self) -> bool:
        try:
            with anyio.fail_after(self.policies.health.timeout_s):
                await self.cluster.draining()
        except (SourceUnavailable, TimeoutError):
            return False
        return True

    async def _judge_silent(self, member: Incarnation[InfoT], why: str) -> None:
        """Find out whether a member hangs, or is cut off with its node."""
        name = member.identity.member
        if name in self._looking_into:
            return
        self._looking_into.add(name)
        try:
            silent = await self._silent_nodes(member)
        finally:
            self._looking_into.discard(name)
        if silent:
            self._notices.avoid(silent)
            detail = f"{why}; {', '.join(silent)} does not answer"
            self._note_fault(member, Fault(Cause.NODE_LOST, detail))
        else:
            self._note_fault(member, Fault(Cause.UNHEALTHY, why))

    def _renew_leases(self) -> None:
        """Let those hear from us that are not polled: who is coming, and who is leaving."""
        actors = [
            member.actor
            for member in self._incarnations()
            if member.actor is not None
            and not self._is_polled(member)
            and member.lingers_until is None
            and not member.dead.is_set()
        ]
        if actors:
            self.cluster.renew(actors, self.lease)

    async def _ask_health(self, actors: Sequence[Actor]) -> Sequence[Reply]:
        timeout_s = self.policies.health.timeout_s
        replies: Sequence[Reply] = []
        why = f"check_members did not return within {PATIENCE} times its {timeout_s:g} s"
        try:
            with anyio.move_on_after(PATIENCE * timeout_s):
                replies = await self.check_members(actors, timeout_s)
                why = _why_no_replies(replies, len(actors))
        except Exception as error:
            why = repr(error)
        if not why:
            return replies
        # The checker failed, not the members (INV-9): they hear that their owner is alive.
        self.emit(EventKind.SOURCE_UNAVAILABLE, source="health", reason=why)
        if actors:
            self.cluster.renew(actors, self.lease)
        return [Reply(ReplyKind.UNAVAILABLE, detail=why)] * len(actors)


def _why_no_replies(replies: Any, count: int) -> str:
    """Return why these are no replies of so many members; empty when they are."""
    if not isinstance(replies, list | tuple):
        return f"check_members returned {type(replies).__name__}, not a list of replies"
    if len(replies) != count:
        return f"check_members returned {len(replies)} replies for {count} members"
    strange = next((reply for reply in replies if not isinstance(reply, Reply)), None)
    return "" if strange is None else f"check_members returned {strange!r}, not a Reply"
