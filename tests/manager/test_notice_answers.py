"""What follows a notice: when its answer begins, whom else it concerns, and who is told."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pool.errors import SourceUnavailable
from pool.manager.events import Event, EventKind, EventLog
from pool.manager.member import Incarnation, Slot
from pool.manager.notice_board import ADVISED_S, MEMBER_SOURCE, NoticeBoard
from pool.planning.notice import Notice, NoticeKind
from pool.planning.notice_policy import Answer, NoticePolicy
from pool.testing import run
from tests.manager.members import member

NOW = 1_000_000.0
LADDER_S = 30.0
SLICE = "ray.io/tpu-slice-name"


Story = Callable[["Board"], Awaitable[None]]


class SmallCluster:
    """Be as much of a cluster as a notice board needs."""

    def __init__(self) -> None:
        self.slices: dict[str, str] = {}
        self.told: list[tuple[str, float | None]] = []
        self.trouble: Exception | None = None
        self.looks = 0

    def unix_time(self) -> float:
        return NOW + anyio.current_time()

    async def topology(self) -> Any:
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        nodes = [
            SimpleNamespace(node_id=node, labels={SLICE: domain})
            for node, domain in self.slices.items()
        ]
        return SimpleNamespace(nodes=nodes)

    async def tell_draining(self, node_id: str, reason: str, deadline: float | None) -> bool:
        if self.trouble is not None:
            raise self.trouble
        self.told.append((node_id, deadline))
        return True


class Board:
    """Attend to the notices of some members."""

    def __init__(self, policy: NoticePolicy | None) -> None:
        self.events: list[Event] = []
        self.cluster = SmallCluster()
        emit = EventLog("p", lambda: 0.0)
        emit.follow(self.events.append)
        cluster: Any = self.cluster
        self.board = NoticeBoard(cluster, emit, lambda: None, policy, LADDER_S)
        self.members: list[Incarnation[str]] = []

    async def attend(self) -> None:
        await self.board.attend(lambda: self.members)

    def take(self, one: Incarnation[str], *told: Notice) -> None:
        self.board.take(one, MEMBER_SOURCE, told)

    def add(self, slot: int, *nodes: str) -> Incarnation[str]:
        """Let there be a member on some nodes."""
        one = member(nodes=nodes)
        one.slot = Slot(slot)
        one.identity = replace(one.identity, slot=slot)
        self.members.append(one)
        return one

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]


def attended(policy: NoticePolicy | None = None) -> Callable[[Story], Callable[[], None]]:
    """Tell a story of a board that is attended to, in virtual time."""

    def decorate(story: Story) -> Callable[[], None]:
        def runs() -> None:
            async def main() -> None:
                board = Board(policy)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(board.attend)
                    await story(board)
                    tasks.cancel_scope.cancel()

            run(main)

        runs.__name__, runs.__doc__ = story.__name__, story.__doc__
        return runs

    return decorate


def preempt(node: str, in_s: float | None = 60, **more: Any) -> Notice:
    deadline = None if in_s is None else NOW + in_s
    return Notice(kind=NoticeKind.PREEMPT, deadline=deadline, node_id=node, **more)


@attended()
async def test_maintenance_in_days_is_known_at_once_and_answered_an_hour_before(
    board: Board,
) -> None:
    one = board.add(0, "n1")
    planned = Notice(kind=NoticeKind.MAINTENANCE, deadline=NOW + 90_000, node_id="n1")
    board.take(one, planned)
    assert board.kinds() == [EventKind.MEMBER_NOTICE]
    assert board.events[0].facts["answer"] == "in 86400 s"
    assert one.leave_by is None
    assert board.board.leaving_nodes() == frozenset(), "the node is used as before"
    assert [warned.notice for warned in one.warnings()] == [planned], "and shown"
    await anyio.sleep(86_399)
    assert one.leave_by is None
    await anyio.sleep(2)
    assert one.leave_by == pytest.approx(90_000)
    assert board.board.leaving_nodes() == {"n1"}


@attended()
async def test_a_notice_that_is_withdrawn_before_its_time_was_never_answered(board: Board) -> None:
    one = board.add(0, "n1")
    board.take(one, Notice(kind=NoticeKind.WALLTIME, deadline=NOW + 5000, node_id="n1"))
    await anyio.sleep(100)
    board.take(one)
    await anyio.sleep(10_000)
    assert one.leave_by is None


@attended(NoticePolicy(answers={NoticeKind.PREEMPT: Answer.IGNORE}))
async def test_what_is_ignored_is_written_down_and_no_more(board: Board) -> None:
    one = board.add(0, "n1")
    board.take(one, preempt("n1"))
    await anyio.sleep(100)
    assert one.leave_by is None
    assert board.events[0].facts["answer"] == "none"
    assert board.board.leaving_nodes() == frozenset()


@attended()
async def test_advice_keeps_replacements_away_and_nobody_else_and_is_forgotten_in_the_end(
    board: Board,
) -> None:
    one = board.add(0, "n1")
    advice = Notice(kind=NoticeKind.REBALANCE, node_id="n1", advisory=True)
    board.take(one, advice)
    assert one.leave_by == math.inf
    assert board.board.leaving_nodes() == frozenset()
    assert board.board.leaving_nodes(advised=True) == {"n1"}
    # The member has left, so that nobody on that node withdraws it.
    board.members.clear()
    await anyio.sleep(ADVISED_S + 1)
    assert board.board.leaving_nodes(advised=True) == frozenset()


@attended()
async def test_a_notice_for_one_node_of_a_slice_concerns_every_member_there(board: Board) -> None:
    """Row P11: and the free nodes of that slice are avoided, too."""
    one, other, apart = board.add(0, "n1", "n2"), board.add(1, "n3"), board.add(2, "n5")
    board.cluster.slices = dict.fromkeys(["n1", "n2", "n3", "n4"], "slice-0") | {"n5": "slice-1"}
    board.take(one, preempt("n1", 60, reason="gone"))
    await anyio.sleep(0.1)
    assert other.leave_by == pytest.approx(60)
    assert apart.leave_by is None
    assert board.board.leaving_nodes() == {"n1", "n2", "n3", "n4"}
    [warned] = other.warnings()
    assert "it goes with node n1, of the same ray.io/tpu-slice-name slice-0" in str(warned.notice)
    # The member with the notice of its own leaves first; the slice goes still.
    board.members.remove(one)
    await anyio.sleep(5)
    assert other.leave_by == pytest.approx(60)
    board.members.insert(0, one)
    board.take(one)
    await anyio.sleep(0.1)
    assert other.leave_by is None
    assert board.board.leaving_nodes() == frozenset()
    assert board.cluster.looks == 1


@attended()
async def test_a_cluster_that_does_not_say_who_goes_with_whom_is_asked_again(board: Board) -> None:
    one, other = board.add(0, "n1"), board.add(1, "n2")
    board.cluster.slices = dict.fromkeys(["n1", "n2"], "slice-0")
    board.cluster.trouble = RuntimeError("away")
    board.take(one, preempt("n1"))
    await anyio.sleep(3.5)
    assert other.leave_by is None
    board.cluster.trouble = None
    await anyio.sleep(1)
    assert other.leave_by == pytest.approx(60)
    assert board.kinds().count(EventKind.SOURCE_UNAVAILABLE) == 1


TELLS = NoticePolicy(tell_cluster=[NoticeKind.PREEMPT], domain_label=None)


@attended(TELLS)
async def test_the_cluster_is_told_once_for_each_node(board: Board) -> None:
    """Row P9."""
    one, other = board.add(0, "n1"), board.add(1, "n1", "n2")
    board.take(one, preempt("n1"))
    board.take(other, preempt("n1"))
    await anyio.sleep(0.1)
    board.take(one, preempt("n1"), Notice(kind=NoticeKind.MAINTENANCE, node_id="n1"))
    await anyio.sleep(100)
    assert board.cluster.told == [("n1", NOW + 60)]
    [event] = [event for event in board.events if event.kind is EventKind.CLUSTER_TOLD]
    assert (event.facts["node"], event.facts["accepted"]) == ("n1", True)


@attended()
async def test_the_cluster_is_not_told_where_that_is_not_allowed(board: Board) -> None:
    board.take(board.add(0, "n1"), preempt("n1", source="aws:spot"))
    await anyio.sleep(10)
    assert not board.cluster.told


@attended(TELLS)
async def test_the_cluster_is_not_told_what_it_said_itself(board: Board) -> None:
    board.take(board.add(0, "n1"), preempt("n1", source="ray"))
    await anyio.sleep(10)
    assert not board.cluster.told


@attended(TELLS)
async def test_a_cluster_that_cannot_be_told_is_told_later_unless_it_was_withdrawn(
    board: Board,
) -> None:
    one, other = board.add(0, "n1"), board.add(1, "n2")
    board.cluster.trouble = SourceUnavailable("the GCS is away")
    board.take(one, preempt("n1"))
    board.take(other, preempt("n2"))
    await anyio.sleep(3.5)
    board.take(other)
    board.cluster.trouble = None
    await anyio.sleep(2)
    assert [node for node, _ in board.cluster.told] == ["n1"]
    assert board.kinds().count(EventKind.SOURCE_UNAVAILABLE) == 1
