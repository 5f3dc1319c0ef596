"""What is known of the nodes' futures, member by member.

Each source replaces what it said before: what it does not repeat was withdrawn, and what it cannot
be asked about stays as it was (INV-9). A deadline is taken over once, when a notice is first seen,
from wall-clock time to the pool's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import anyio

from pool.cluster.interface import Cluster
from pool.errors import SourceUnavailable
from pool.manager.events import EventKind, EventLog
from pool.manager.member import Incarnation, InfoT, Warned
from pool.notices.source import ClusterNoticeSource
from pool.planning.notice import Notice

PATIENCE_S = 120.0
"""How long a member with a notice without a deadline may wait for its replacement."""
MEMBER_SOURCE = "member"
"""The source's name for what members say of themselves, through their lifelines."""


class NoticeBoard:
    """Keep the notices of a pool's members.

    Args:
        cluster: Tells the wall-clock time, and is passed to sources.
        emit: Where to say that a notice came or was withdrawn.
        wake: Called when something changed.
    """

    def __init__(self, cluster: Cluster, emit: EventLog, wake: Callable[[], None]) -> None:
        self._cluster = cluster
        self._emit = emit
        self._wake = wake

    async def ask_forever(
        self,
        source: ClusterNoticeSource,
        members: Callable[[], Sequence[Incarnation[InfoT]]],
    ) -> None:
        """Ask a source again and again about the nodes of all members."""
        trouble = ""
        while True:
            asked = members()
            nodes = sorted({node for member in asked for node in member.nodes})
            try:
                found = await source.check(self._cluster, nodes)
            except SourceUnavailable as error:
                # No verdict (INV-9): what was known stays known. Said once for each trouble.
                if str(error) != trouble:
                    trouble = str(error)
                    self._emit(EventKind.SOURCE_UNAVAILABLE, source=source.name, reason=trouble)
            else:
                trouble = ""
                for member in asked:
                    told = {node: (found[node],) for node in member.nodes if node in found}
                    self.take(member, source.name, told)
            await anyio.sleep(source.period_s)

    def take(
        self, member: Incarnation[InfoT], source: str, told: Mapping[str, Sequence[Notice]]
    ) -> None:
        """Take over all that one source says now of a member: node to notices."""
        before = {(warned.node, warned.notice): warned for warned in member.notices.get(source, ())}
        after = {
            (node, notice): before.get((node, notice)) or self._first_seen(node, notice)
            for node, notices in told.items()
            for notice in notices
        }
        if before.keys() == after.keys():
            return
        now = anyio.current_time()
        for key in after.keys() - before.keys():
            self._say(member, str(key[1]), left_s=round(after[key].leave_by - now, 1))
        for key in before.keys() - after.keys():
            self._say(member, f"withdrawn: {key[1]}")
        member.notices[source] = tuple(after.values())
        self._wake()

    def _first_seen(self, node: str, notice: Notice) -> Warned:
        left_s = PATIENCE_S
        if notice.deadline is not None:
            left_s = max(0.0, notice.deadline - self._cluster.unix_time())
        return Warned(node, notice, anyio.current_time() + left_s)

    def _say(self, member: Incarnation[InfoT], notice: str, **facts: object) -> None:
        identity = member.identity
        self._emit(
            EventKind.MEMBER_NOTICE, identity.slot, identity.generation, notice=notice, **facts
        )
