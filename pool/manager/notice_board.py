"""What is known of the nodes' futures, member by member.

Each source replaces what it said before: what it does not repeat was withdrawn, and what it cannot
be asked about stays as it was (INV-9). A deadline is taken over once, when a notice is first seen,
from wall-clock time to the pool's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import anyio

from pool.cluster.interface import Cluster
from pool.manager.events import EventKind, EventLog
from pool.manager.member import Incarnation, InfoT, Warned
from pool.notices.source import ClusterNoticeSource
from pool.planning.notice import Notice
from pool.planning.restart import cause_of

PATIENCE_S = 120.0
"""How long a member with a notice without a deadline may wait for its replacement."""
REMEMBERED_S = 60.0
"""How long after its deadline a node is still avoided, if nobody withdraws the notice."""
SILENCE_S = 120.0
"""How long a node that did not answer is avoided; Ray gives it up after 64 s at its defaults."""
SILENCE = "silence"
"""The source's name for what we found out ourselves."""
MEMBER_SOURCE = "member"
"""The source's name for what members say of themselves, through their lifelines."""


class NoticeBoard:
    """Keep the notices of a pool's members, and which nodes not to go to.

    Args:
        cluster: Tells the wall-clock time, and is passed to sources.
        emit: Where to say that a notice came or was withdrawn.
        wake: Called when something changed.
    """

    def __init__(self, cluster: Cluster, emit: EventLog, wake: Callable[[], None]) -> None:
        self._cluster = cluster
        self._emit = emit
        self._wake = wake
        # Until when each node is avoided, by who said so. It outlives the members that were there.
        self._leaving: dict[tuple[str, str], float] = {}

    def leaving_nodes(self) -> frozenset[str]:
        """Return the nodes that no new member is to be put on."""
        now = anyio.current_time()
        self._leaving = {key: until for key, until in self._leaving.items() if until > now}
        return frozenset(node for _, node in self._leaving)

    def avoid(self, nodes: Iterable[str]) -> None:
        """Put nothing new on nodes that do not answer, until the cluster has had time to say so."""
        until = anyio.current_time() + SILENCE_S
        self._leaving.update({(SILENCE, node): until for node in nodes})

    async def ask_forever(
        self,
        source: ClusterNoticeSource,
        members: Callable[[], Sequence[Incarnation[InfoT]]],
    ) -> None:
        """Ask a source again and again about the nodes of all members."""
        trouble = ""
        while True:
            asked = members()
            # In the order of the members, for a set's order differs from run to run.
            nodes = dict.fromkeys(node for member in asked for node in member.nodes)
            nodes.update(dict.fromkeys(sorted(self.leaving_nodes())))
            try:
                found = await source.check(self._cluster, list(nodes))
            except Exception as error:
                # `SourceUnavailable`, or a fault in the source itself: no verdict (INV-9), what was
                # known stays known. Said once for each trouble.
                if str(error) != trouble:
                    trouble = str(error)
                    self._emit(EventKind.SOURCE_UNAVAILABLE, source=source.name, reason=trouble)
            else:
                trouble = ""
                told = {node: replace(notice, node_id=node) for node, notice in found.items()}
                for name, node in list(self._leaving):
                    if name == source.name and node not in told:
                        del self._leaving[name, node]
                for member in asked:
                    if told or member.notices:
                        now_told = [told[node] for node in member.nodes if node in told]
                        self.take(member, source.name, now_told)
            await anyio.sleep(source.period_s)

    def take(self, member: Incarnation[InfoT], source: str, told: Iterable[Notice]) -> None:
        """Take over all that one source says now of a member's nodes."""
        before = {warned.notice: warned for warned in member.notices.get(source, ())}
        after = {notice: before.get(notice) or self._first_seen(notice) for notice in told}
        for notice, warned in after.items():
            self._leaving[source, notice.node_id] = warned.leave_by + REMEMBERED_S
        if before.keys() == after.keys():
            return
        now = anyio.current_time()
        for notice in after.keys() - before.keys():
            left_s = round(after[notice].leave_by - now, 1)
            self._say(member, str(notice), cause=str(cause_of([notice])), left_s=left_s)
        for notice in before.keys() - after.keys():
            self._leaving.pop((source, notice.node_id), None)
            self._say(member, f"withdrawn: {notice}")
        member.notices[source] = tuple(after.values())
        member.slot.look_anew()
        self._wake()

    def _first_seen(self, notice: Notice) -> Warned:
        left_s = PATIENCE_S
        if notice.deadline is not None:
            left_s = max(0.0, notice.deadline - self._cluster.unix_time())
        return Warned(notice, anyio.current_time() + left_s)

    def _say(self, member: Incarnation[InfoT], notice: str, **facts: object) -> None:
        identity = member.identity
        self._emit(
            EventKind.MEMBER_NOTICE, identity.slot, identity.generation, notice=notice, **facts
        )
