"""What is drawn and said of a pool, from snapshots and events alone."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

import pool
from pool.demo.job import Job
from pool.demo.picture import draw
from pool.demo.show import Lines, Screen
from pool.demo.story import standings
from pool.demo.words import WIDTH, event_in_words
from pool.planning.plan import Role


def host(index: int, pid: int) -> pool.HostInfo:
    identity = pool.Identity(pool="demo", instance="i", slot=0, generation=1, level="host")
    return pool.HostInfo(
        index=index,
        hosts=2,
        node_id=f"{index}bcdef0123",
        address="10.0.0.1",
        pid=pid,
        bundle=pool.Resources({"GPU": 4, "CPU": 4}),
        actor=pool.Actor(f"host{index}", identity),
    )


def member(
    slot: int, state: pool.State, *, ready: bool = True, notice: str = ""
) -> pool.MemberSnapshot:
    info = pool.ReplicaInfo((host(0, 4711), host(1, 4712)), "head") if ready else None
    notices = (pool.NoticeSnapshot(node_id="0bcdef", text=notice, left_s=42),) if notice else ()
    return pool.MemberSnapshot(
        id=f"demo/{slot}.2",
        generation=2,
        state=state,
        age_s=3.21,
        actor_id=f"actor{slot}",
        nodes=("0bcdef0123", "1bcdef0123"),
        in_flight=2,
        notices=notices,
        health="",
        info=info,
    )


def slot(
    index: int, picture: pool.MemberSnapshot | None, *, role: Role = Role.HOLDER, reason: str = ""
) -> pool.SlotSnapshot:
    rank = index if role is Role.HOLDER else None
    return pool.SlotSnapshot(index=index, role=role, rank=rank, reason=reason, member=picture)


def snapshot(*slots: pool.SlotSnapshot) -> pool.PoolSnapshot:
    return pool.PoolSnapshot(
        name="demo", desired=3, ready=2, settled=False, failed=None, slots=slots
    )


def drawn(picture: pool.PoolSnapshot, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(draw(picture))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def event(kind: pool.EventKind, **facts: Any) -> pool.Event:
    return pool.Event(kind, 1000.0, "demo", 1, 2, facts)


def test_the_tree_shows_slots_members_and_hosts() -> None:
    text = drawn(
        snapshot(
            slot(1, member(1, pool.State.READY)),
            slot(0, member(0, pool.State.STARTING, ready=False), reason="it starts"),
        )
    )
    assert "pool demo  2 of 3 ready" in text
    assert text.index("slot 0") < text.index("slot 1")
    assert "generation 2  starting" in text
    assert "it starts" in text
    assert "host 1  node 1bcdef  pid 4712" in text
    assert "4 GPU" in text


def test_the_tree_shows_replacements_notices_and_empty_slots() -> None:
    text = drawn(
        snapshot(
            slot(0, member(0, pool.State.READY, notice="preempt notice from provider")),
            slot(1, None, reason="back-off"),
            slot(3, member(3, pool.State.PENDING, ready=False), role=Role.REPLACEMENT),
        )
    )
    assert "preempt notice from provider (42 s left)" in text
    assert "slot 1  rank 1      empty" in text
    assert "slot 3  replacement" in text


@pytest.mark.parametrize("state", list(pool.State))
def test_each_state_can_be_drawn(state: pool.State) -> None:
    assert str(state) in drawn(snapshot(slot(0, member(0, state))))


def test_a_long_reason_takes_one_line() -> None:
    text = drawn(snapshot(slot(0, None, reason="it waits " * 50)), width=60)
    assert len(text.splitlines()) == 3


def test_standings_are_of_ready_members_and_hold_their_processes() -> None:
    taken = standings(
        snapshot(
            slot(0, member(0, pool.State.READY)),
            slot(1, member(1, pool.State.DRAINING)),
            slot(2, None),
        )
    )
    assert list(taken) == ["demo/0.2"]
    assert taken["demo/0.2"].hosts == (("0bcdef0123", 4711), ("1bcdef0123", 4712))


@pytest.mark.parametrize("kind", list(pool.EventKind))
def test_every_event_is_said_in_one_line_or_not_at_all(kind: pool.EventKind) -> None:
    facts = dict.fromkeys(
        ("state", "rank", "reason", "cause", "notice", "desired", "in_s"), "word " * 40
    )
    said = event_in_words(event(kind, **facts))
    assert said is None or (len(said) <= WIDTH and "\n" not in said)


def test_members_are_named_by_slot_and_generation() -> None:
    fault = event(pool.EventKind.MEMBER_FAULT, cause="crash", reason="host 1: it died")
    assert event_in_words(fault) == "1.2 failed (crash): host 1: it died"
    pending = event(pool.EventKind.MEMBER_STATE, state=pool.State.PENDING, reason="")
    assert event_in_words(pending) is None


def test_lines_give_the_progress_once_for_each_tenth() -> None:
    to, report = io.StringIO(), io.StringIO()
    job = Job([(("json", "a.py"),)] * 10, passes=1)
    with Lines(to, report) as show:
        for job.received in range(11):
            show.frame(snapshot(), job)
            show.frame(snapshot(), job)
        show.report("ok")
    assert to.getvalue().count("of the job is done") == 10
    assert "100% of the job is done" in to.getvalue()
    assert report.getvalue() == "ok\n"


def test_the_screen_shows_tree_progress_and_news() -> None:
    to = io.StringIO()
    job = Job([(("json", "a.py"),)] * 8, passes=1)
    job.received = 2
    with Screen(to) as show:
        show.step("kill -9 4711")
        show.event(event(pool.EventKind.MEMBER_FAULT, cause="crash", reason="it died"))
        show.frame(snapshot(slot(0, member(0, pool.State.READY))), job)
    text = to.getvalue()
    for part in ("kill -9 4711", "1.2 failed", "slot 0", "25%", "2 of 8 batches"):
        assert part in text


def test_a_job_plans_another_pass_only_while_the_story_goes_on() -> None:
    batches = [(("json", f"{number}.py"),) for number in range(4)]
    job = Job(batches, passes=2)
    items = job._items()
    for _ in range(9):
        next(items)
    assert job.planned == 12, "the story is not over, so a third pass was begun"
    job.let_end()
    assert len(list(items)) == 3
    assert job.sent == 12
    assert job.passes == []
