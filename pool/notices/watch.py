"""What a node host does with its sources: resolve them, ask each at its own pace, tell the sum.

A source that cannot be asked changes nothing (INV-9): what it said stays said. It is asked again
after a pause that doubles, and its trouble is counted, and told once for each kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import anyio

from pool.log import Word, say
from pool.notices.sharing import Hear, Told, share
from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice

BACK_OFF_MAX_S = 15.0
"""The longest pause between questions to a source in trouble, unless its own period is longer: half
of the shortest warning that any platform gives."""
RESOLVE_AGAIN_S = 60.0
SAME_S = 60.0
"""Two deadlines of one announcement, read by two processes, differ by less than this."""


@dataclass
class Tally:
    """Count what came of a source's questions.

    Args:
        asked: How many were asked.
        unavailable: How many had no answer.
        in_a_row: How many of the last had none.
        trouble: Why the last had none; empty if it had one.
    """

    asked: int = 0
    unavailable: int = 0
    in_a_row: int = 0
    trouble: str = ""


def pause_s(period_s: float, in_a_row: int) -> float:
    """Return how long to wait before the next question.

    Args:
        period_s: The source's own period.
        in_a_row: How many of the last questions had no answer.
    """
    if not in_a_row:
        return period_s
    doubled: float = max(period_s, 0.5) * 2.0 ** min(in_a_row, 16)
    return min(doubled, max(BACK_OFF_MAX_S, period_s))


class NodeWatch:
    """Ask all sources of one node host.

    Args:
        sources: Who is asked.
        node_id: The node's id.
        address: Its address.
        publish: Is told all notices of the node, whenever they change.
        shared_as: A name of the node that all processes on it have in common; empty where each
            asks for itself.

    Attributes:
        tallies: Source to what came of its questions, for those that are asked from here.
    """

    def __init__(
        self,
        sources: Sequence[NodeNoticeSource],
        node_id: str,
        address: str,
        publish: Hear,
        shared_as: str = "",
    ) -> None:
        self.tallies: dict[str, Tally] = {}
        self._sources = sources
        self._node_id = node_id
        self._address = address
        self._publish = publish
        self._shared_as = shared_as
        self._told: dict[int, Told] = {}

    async def run(self) -> None:
        """Ask until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            for index, source in enumerate(self._sources):
                tasks.start_soon(self._follow, index, source)

    async def _follow(self, index: int, source: NodeNoticeSource) -> None:
        heard: list[Notice] = []

        def hear(told: Told) -> None:
            heard[:] = told
            self._told[index] = tuple(replace(n, node_id=self._node_id) for n in told)
            self._publish(tuple(n for key in sorted(self._told) for n in self._told[key]))

        async def ask(tell: Hear) -> None:
            await self._ask(source, tell, tuple(heard))

        if source.shared_as is None or not self._shared_as:
            await ask(hear)
        else:
            try:
                await share(f"{self._shared_as} {source.shared_as}", ask, hear)
            except Exception as error:
                # Sharing spares the service; a notice is worth more than that.
                say(Word.SOURCE_NOT_SHARED, source=source.name, reason=repr(error))
                await ask(hear)

    async def _ask(self, source: NodeNoticeSource, tell: Hear, before: Told) -> None:
        """Ask a source, or those that it finds on the node, for ever.

        Args:
            source: The source.
            tell: Is told all that is known, whenever it changes.
            before: What was heard while another process asked. It stays said until its own part
                has been asked here (INV-9).
        """
        parts = await self._resolve(source)
        known = {
            index: tuple(notice for notice in before if notice.source == part.name)
            for index, part in enumerate(parts)
        }
        if any(known.values()):
            tell(tuple(n for key in sorted(known) for n in known[key]))

        def hear(index: int, told: Told) -> None:
            told = tuple(_as_before(notice, known[index]) for notice in told)
            if known[index] != told:
                known[index] = told
                tell(tuple(n for key in sorted(known) for n in known[key]))

        async with anyio.create_task_group() as tasks:
            for index, part in enumerate(parts):
                tasks.start_soon(self._ask_forever, part, index, hear)
            if not parts:
                # Nothing is to be heard here. Others on this node need not find that out again.
                await anyio.sleep_forever()

    async def _resolve(self, source: NodeNoticeSource) -> Sequence[NodeNoticeSource]:
        while True:
            try:
                return await source.resolve()
            except Exception as error:
                say(Word.SOURCE_UNANSWERED, source=source.name, reason=repr(error))
            await asyncio.sleep(RESOLVE_AGAIN_S)

    async def _ask_forever(
        self, source: NodeNoticeSource, index: int, hear: Callable[[int, Told], None]
    ) -> None:
        tally = self.tallies[source.name] = Tally()
        while True:
            tally.asked += 1
            try:
                notice = await source.check(self._node_id, self._address)
            except Exception as error:
                # `SourceUnavailable`, or a fault in the source itself: no verdict (INV-9).
                tally.unavailable += 1
                tally.in_a_row += 1
                if str(error) != tally.trouble:
                    tally.trouble = str(error)
                    say(
                        Word.SOURCE_UNANSWERED,
                        source=source.name,
                        unavailable=tally.unavailable,
                        asked=tally.asked,
                        reason=tally.trouble,
                    )
            else:
                tally.in_a_row, tally.trouble = 0, ""
                hear(index, () if notice is None else (notice,))
            await asyncio.sleep(pause_s(source.period_s, tally.in_a_row))


def _as_before(notice: Notice, before: Told) -> Notice:
    """Return the notice with the deadline that was read first, if it is the same announcement.

    Where a platform names no time, the deadline counts from when it was heard, and must not move
    because somebody else heard it again.
    """
    for other in before:
        if (
            notice.deadline is not None
            and other.deadline is not None
            and 0 <= notice.deadline - other.deadline < SAME_S
            and replace(notice, deadline=other.deadline) == other
        ):
            return other
    return notice
