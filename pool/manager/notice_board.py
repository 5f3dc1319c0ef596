"""What is known of the nodes' futures, member by member, and what follows from it.

Each source replaces what it said before: what it does not repeat was withdrawn, and what it cannot
be asked about stays as it was (INV-9). A deadline is taken over once, when a notice is first seen,
from wall-clock time to the pool's clock. When the answer to a notice begins, and of which the
cluster is told, is the policy's to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from pool.cluster.interface import Cluster
from pool.manager.cluster_teller import ClusterTeller
from pool.manager.domain_book import DomainBook
from pool.manager.events import EventKind, EventLog
from pool.manager.member import Incarnation, InfoT, Warned
from pool.planning.notice import Notice
from pool.planning.notice_policy import Answer, NoticePolicy
from pool.planning.restart import cause_of

if TYPE_CHECKING:
    from pool.notices.source import ClusterNoticeSource

REMEMBERED_S = 60.0
"""How long after its deadline a node is still avoided, if nobody withdraws the notice."""
ADVISED_S = 3600.0
"""How long a node that may go, or stay, is avoided by replacements after it was last said so."""
SILENCE_S = 120.0
"""How long a node that did not answer is avoided; Ray gives it up after 64 s at its defaults."""
MEMBER_SOURCE = "member"
"""The source's name for what members say of themselves, through their lifelines."""
DOMAIN_SOURCE = "domain"
"""The source's name for what follows from a notice for another node of the failure domain."""
LEARN_TIMEOUT_S = 5.0
"""How long the cluster may take to name the nodes' domains: notices wait for their answers."""
AGAIN_S = 1.0
"""Pause before the cluster is asked, or told, again what it was not able to."""

Members = Callable[[], Sequence[Incarnation[InfoT]]]


class NoticeBoard:
    """Keep the notices of a pool's members, and which nodes not to go to.

    Args:
        cluster: Tells the wall-clock time, and is passed to sources.
        emit: Where to say that a notice came or was withdrawn.
        wake: Called when something changed.
        policy: What follows a notice.
        ladder_s: How long a drain may take, in seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        emit: EventLog,
        wake: Callable[[], None],
        policy: NoticePolicy | None = None,
        ladder_s: float = 30.0,
    ) -> None:
        self._cluster = cluster
        self._emit = emit
        self._wake = wake
        self._policy = NoticePolicy() if policy is None else policy
        self._ladder_s = ladder_s
        self._domains = DomainBook(cluster, self._policy.domain_label)
        self._teller = ClusterTeller(cluster, emit, self._policy)
        # What each source says of each node, and until when silent nodes are avoided. Both outlive
        # the members that were there.
        self._standing: dict[tuple[str, str], Warned] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._silent: dict[str, float] = {}
        self._news = anyio.Event()

    def leaving_nodes(self, *, advised: bool = False) -> frozenset[str]:
        """Return the nodes that no new member is to be put on.

        Args:
            advised: Whether those count as well that may well stay.
        """
        now = anyio.current_time()
        self._silent = {node: until for node, until in self._silent.items() if until > now}
        self._standing = {
            key: warned for key, warned in self._standing.items() if self._until[key] > now
        }
        found = {
            node
            for (_, node), warned in self._standing.items()
            if advised or warned.leave_by < math.inf
        }
        return frozenset(found | self._silent.keys())

    def avoid(self, nodes: Iterable[str]) -> None:
        """Put nothing new on nodes that do not answer, until the cluster has had time to say so."""
        self._silent.update(dict.fromkeys(nodes, anyio.current_time() + SILENCE_S))

    async def ask_forever(self, source: ClusterNoticeSource, members: Members[InfoT]) -> None:
        """Ask a source again and again about the nodes of all members."""
        trouble = ""
        times = 0
        while True:
            asked = members()
            # In the order of the members, for a set's order differs from run to run.
            nodes = dict.fromkeys(node for member in asked for node in member.nodes)
            nodes.update(dict.fromkeys(sorted(self.leaving_nodes(advised=True))))
            try:
                found = await source.check(self._cluster, list(nodes))
            except Exception as error:
                # `SourceUnavailable`, or a fault in the source itself: no verdict (INV-9), what was
                # known stays known. Counted, and said once for each trouble.
                times += 1
                if str(error) != trouble:
                    trouble = str(error)
                    self._say_unavailable(source.name, trouble, times)
            else:
                trouble = ""
                told = {node: replace(notice, node_id=node) for node, notice in found.items()}
                for name, node in list(self._standing):
                    if name == source.name and node not in told:
                        self._forget(name, node)
                for member in asked:
                    if told or member.notices:
                        now_told = [told[node] for node in member.nodes if node in told]
                        self.take(member, source.name, now_told)
            await anyio.sleep(source.period_s)

    def take(self, member: Incarnation[InfoT], source: str, told: Iterable[Notice]) -> None:
        """Take over all that one source says now of a member's nodes."""
        before = {warned.notice: warned for warned in member.notices.get(source, ())}
        self._take(
            member, source, [before.get(notice) or self._first_seen(notice) for notice in told]
        )

    def _take(self, member: Incarnation[InfoT], source: str, told: Sequence[Warned]) -> None:
        before = {warned.notice: warned for warned in member.notices.get(source, ())}
        after = {warned.notice: warned for warned in told}
        for warned in told:
            if warned.is_due:
                self._begin(source, warned)
        if before.keys() == after.keys():
            return
        now = anyio.current_time()
        # In the order in which they were told, for a set's order differs from run to run.
        for notice in [notice for notice in before if notice not in after]:
            self._forget(source, notice.node_id)
            self._teller.withdraw(notice)
            self._say(member, f"withdrawn: {notice}")
        for notice, warned in after.items():
            if notice not in before:
                facts: dict[str, object] = {"cause": str(cause_of([notice]))}
                if warned.leave_by < math.inf:
                    facts["left_s"] = round(warned.leave_by - now, 1)
                if not warned.is_due:
                    facts["answer"] = (
                        "none"
                        if warned.begins_at == math.inf
                        else f"in {warned.begins_at - now:.0f} s"
                    )
                self._say(member, str(notice), **facts)
            if warned.is_due:
                self._begin(source, warned)
        member.notices[source] = tuple(after.values())
        self._changed(member)

    def _first_seen(self, notice: Notice) -> Warned:
        now = anyio.current_time()
        left_s = self._policy.patience_s
        begins_at = -math.inf
        if notice.deadline is not None:
            left_s = max(0.0, notice.deadline - self._cluster.unix_time())
            begins_at = now + left_s - self._policy.begins_s(notice, self._ladder_s)
        answer = self._policy.answer(notice)
        if answer is Answer.IGNORE:
            begins_at = math.inf
        return Warned(
            notice,
            leave_by=math.inf if notice.advisory else now + left_s,
            begins_at=begins_at,
            replace_first=answer is Answer.REPLACE or notice.advisory,
            is_due=begins_at <= now,
        )

    def _begin(self, source: str, warned: Warned) -> None:
        self._stand(source, warned)
        self._teller.note(warned.notice)

    def _stand(self, source: str, warned: Warned) -> None:
        key = (source, warned.notice.node_id)
        is_sure = warned.leave_by < math.inf
        self._standing[key] = warned
        self._until[key] = (
            warned.leave_by + REMEMBERED_S if is_sure else anyio.current_time() + ADVISED_S
        )

    def _forget(self, source: str, node: str) -> None:
        self._standing.pop((source, node), None)
        self._news.set()

    def _changed(self, member: Incarnation[InfoT]) -> None:
        member.slot.look_anew()
        self._wake()
        self._news.set()

    def _say(self, member: Incarnation[InfoT], notice: str, **facts: object) -> None:
        identity = member.identity
        self._emit(
            EventKind.MEMBER_NOTICE, identity.slot, identity.generation, notice=notice, **facts
        )

    def _say_unavailable(self, source: str, reason: str, times: int) -> None:
        self._emit(EventKind.SOURCE_UNAVAILABLE, source=source, reason=reason, times=times)

    # -- what follows ---------------------------------------------------------------------------

    async def attend(self, members: Members[InfoT]) -> None:
        """Begin answers when their time comes, spread notices over domains, tell the cluster."""
        unlearnt = 0
        while True:
            self._news = anyio.Event()
            wake_at = self._begin_due(members())
            if self._standing:
                try:
                    with anyio.fail_after(LEARN_TIMEOUT_S):
                        await self._domains.learn([n for member in members() for n in member.nodes])
                    unlearnt = 0
                except Exception as error:
                    unlearnt += 1
                    if unlearnt == 1:
                        self._say_unavailable(DOMAIN_SOURCE, repr(error), unlearnt)
            self._spread(members())
            all_told = await self._teller.tell()
            if unlearnt or not all_told:
                wake_at = min(wake_at, anyio.current_time() + AGAIN_S)
            with anyio.move_on_after(wake_at - anyio.current_time()):
                await self._news.wait()

    def _begin_due(self, members: Sequence[Incarnation[InfoT]]) -> float:
        """Begin the answers whose time has come; returns when that of the next one does."""
        now = anyio.current_time()
        next_at = math.inf
        for member in members:
            for source, told in list(member.notices.items()):
                if all(warned.is_due for warned in told):
                    continue
                now_told = tuple(replace(w, is_due=w.is_due or w.begins_at <= now) for w in told)
                member.notices[source] = now_told
                for warned in now_told:
                    if warned.is_due:
                        self._begin(source, warned)
                    else:
                        next_at = min(next_at, warned.begins_at)
                if now_told != told:
                    member.slot.look_anew()
                    self._wake()
        return next_at

    def _spread(self, members: Sequence[Incarnation[InfoT]]) -> None:
        """Let a notice for one node concern those that go with it, by the failure domain."""
        direct: dict[str, Warned] = {}
        for (source, node), warned in self._standing.items():
            if source != DOMAIN_SOURCE and warned.leave_by < math.inf:
                first = direct.setdefault(node, warned)
                direct[node] = min(first, warned, key=lambda each: each.leave_by)
        leaving = {node: warned.leave_by for node, warned in direct.items()}
        companions = self._domains.companions(leaving)
        indirect = {
            node: self._with(direct[cause], node, cause) for node, cause in companions.items()
        }
        for source, node in list(self._standing):
            if source == DOMAIN_SOURCE and node not in indirect:
                del self._standing[source, node]
        for warned in indirect.values():
            self._stand(DOMAIN_SOURCE, warned)
        for member in members:
            told = [indirect[node] for node in member.nodes if node in indirect]
            if told or member.notices.get(DOMAIN_SOURCE):
                self._take(member, DOMAIN_SOURCE, told)

    def _with(self, warned: Warned, node: str, cause: str) -> Warned:
        why = f"it goes with node {cause}, of the same {self._domains.describe(node)}"
        notice = warned.notice
        reason = f"{notice.reason}; {why}" if notice.reason else why
        return replace(warned, notice=replace(notice, node_id=node, reason=reason))
