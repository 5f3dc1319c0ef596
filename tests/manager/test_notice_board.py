"""What is known of the nodes' futures: taken over once, kept while nobody can be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import anyio
import pytest

import pool
from pool.manager.events import Event, EventKind, EventLog
from pool.manager.member import Incarnation
from pool.manager.notice_board import AGAIN_S, LEARN_TIMEOUT_S, NoticeBoard
from pool.planning.notice import Notice, NoticeKind
from pool.planning.notice_policy import NoticePolicy
from pool.testing import run
from tests.manager.members import member

NOW = 1_000_000.0


class Clock:
    """Be as much of a cluster as a notice board needs."""

    def unix_time(self) -> float:
        return NOW + anyio.current_time()


class Source(pool.notices.ClusterNoticeSource):
    """Say what the test wants."""

    name = "test"
    period_s = 1.0

    def __init__(self) -> None:
        self.says: Mapping[str, Notice] | Exception = {}
        self.asked: list[list[str]] = []

    async def check(self, cluster: Any, node_ids: Sequence[str]) -> Mapping[str, Notice]:
        self.asked.append(list(node_ids))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Board:
    """Ask a source in the background, and look at what comes of it."""

    def __init__(self, *members: Incarnation[str], cluster: Any = None) -> None:
        self.events: list[Event] = []
        emit = EventLog("p", lambda: 0.0)
        emit.follow(self.events.append)
        self.woken = 0
        seen: Any = Clock() if cluster is None else cluster
        self.board = NoticeBoard(seen, emit, self._wake)
        self.source = Source()
        self.members = members

    def _wake(self) -> None:
        self.woken += 1

    async def ask(self) -> None:
        await self.board.ask_forever(self.source, lambda: self.members)

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]


def test_a_deadline_is_taken_over_once_and_a_source_is_heard_once() -> None:
    async def main() -> None:
        one, other = member(nodes=("n1", "n2")), member(nodes=("n3",))
        board = Board(one, other)
        board.source.says = {"n2": Notice(kind=NoticeKind.PREEMPT, deadline=NOW + 60)}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(board.ask)
            await anyio.sleep(10.5)
            tasks.cancel_scope.cancel()
        assert one.leave_by == pytest.approx(60, abs=0.01)
        assert other.leave_by is None
        assert board.source.asked[0] == ["n1", "n2", "n3"]
        assert board.kinds() == [EventKind.MEMBER_NOTICE]
        assert board.events[0].facts["left_s"] == pytest.approx(60, abs=0.1)
        assert board.woken == 1

    run(main)


def test_a_notice_without_a_deadline_gets_some_patience_and_a_past_one_none() -> None:
    async def main() -> None:
        one, other = member(nodes=("n1",)), member(nodes=("n2",))
        board = Board(one, other)
        board.source.says = {
            "n1": Notice(kind=NoticeKind.PREEMPT),
            "n2": Notice(kind=NoticeKind.PREEMPT, deadline=NOW - 60),
        }
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(board.ask)
            await anyio.sleep(0.5)
            tasks.cancel_scope.cancel()
        assert one.leave_by == NoticePolicy().patience_s
        assert not one.has_deadline
        assert other.leave_by == 0
        assert other.has_deadline

    run(main)


@pytest.mark.parametrize("trouble", [pool.SourceUnavailable("no route"), KeyError("a bug")])
def test_what_a_source_said_stays_while_it_cannot_be_asked_and_its_trouble_is_told_once(
    trouble: Exception,
) -> None:
    """INV-9."""

    async def main() -> None:
        one = member()
        board = Board(one)
        board.source.says = {"n1": Notice(kind=NoticeKind.PREEMPT, deadline=NOW + 60)}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(board.ask)
            await anyio.sleep(0.5)
            board.source.says = trouble
            await anyio.sleep(10)
            assert one.warnings()
            assert board.board.leaving_nodes() == {"n1"}
            assert board.kinds() == [EventKind.MEMBER_NOTICE, EventKind.SOURCE_UNAVAILABLE]
            board.source.says = {}
            await anyio.sleep(1)
            assert not one.warnings()
            assert board.board.leaving_nodes() == frozenset()
            assert "withdrawn" in board.events[-1].facts["notice"]
            board.source.says = trouble
            await anyio.sleep(1)
            assert board.kinds()[-1] is EventKind.SOURCE_UNAVAILABLE, "told again after an answer"
            tasks.cancel_scope.cancel()

    run(main)


def test_of_several_sources_the_nearest_deadline_counts_and_each_withdraws_its_own() -> None:
    async def main() -> None:
        one = member()
        board = Board(one)
        near = Notice(kind=NoticeKind.PREEMPT, deadline=NOW + 10, node_id="n1")
        far = Notice(kind=NoticeKind.MAINTENANCE, deadline=NOW + 100, node_id="n1")
        board.board.take(one, "near", [near])
        board.board.take(one, "far", [far])
        assert one.leave_by == 10
        board.board.take(one, "near", [])
        assert one.leave_by == 100
        assert board.board.leaving_nodes() == {"n1"}
        board.board.take(one, "far", [])
        assert one.leave_by is None

    run(main)


def test_a_node_is_avoided_after_its_member_left_until_the_notice_is_withdrawn() -> None:
    async def main() -> None:
        one = member()
        board = Board(one)
        board.source.says = {"n1": Notice(kind=NoticeKind.PREEMPT, deadline=NOW + 60)}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(board.ask)
            await anyio.sleep(0.5)
            board.members = ()
            await anyio.sleep(5)
            assert board.board.leaving_nodes() == {"n1"}
            assert board.source.asked[-1] == ["n1"], "the source is asked about it still"
            board.source.says = {}
            await anyio.sleep(1)
            assert board.board.leaving_nodes() == frozenset()
            tasks.cancel_scope.cancel()

    run(main)


class Mute(Clock):
    """Say nothing of any node."""

    asked = 0

    async def topology(self) -> NoReturn:
        self.asked += 1
        await anyio.sleep_forever()
        raise AssertionError


def test_a_cluster_that_does_not_name_the_domains_holds_up_no_answer() -> None:
    async def main() -> None:
        one = member()
        board = Board(one, cluster=Mute())
        board.source.says = {"n1": Notice(kind=NoticeKind.PREEMPT, deadline=NOW + 60)}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(board.ask)
            tasks.start_soon(board.board.attend, lambda: board.members)
            await anyio.sleep(10)
            later = Notice(kind=NoticeKind.MAINTENANCE, deadline=NOW + 3700, node_id="n1")
            board.board.take(one, "other", [later])
            begins_at = next(w.begins_at for w in one.warnings() if w.notice == later)
            assert begins_at > anyio.current_time()
            await anyio.sleep(begins_at - anyio.current_time() + LEARN_TIMEOUT_S + AGAIN_S)
            assert all(warned.is_due for warned in one.warnings())
            troubles = [e for e in board.events if e.kind is EventKind.SOURCE_UNAVAILABLE]
            assert [e.facts["source"] for e in troubles] == ["domain"], "it is said once"
            tasks.cancel_scope.cancel()

    run(main)
