"""What the page makes of moments: spans, faults, times for ages, and only what changed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pool.page.board import Board
from pool.page.story import CLOSED_KEPT, KEPT_S, SPANS_KEPT, Story
from tests.page.recorded import eventful, record

Json = dict[str, Any]


def member(state: str = "ready", generation: int = 1, age_s: float = 0.0, **more: Any) -> Json:
    given = {"id": f"p/0.{generation}", "state": state, "generation": generation, "age_s": age_s}
    return {**given, "notices": [], "ends_in_s": None, **more}


def slot(index: int, one: Json | None) -> Json:
    return {"index": index, "rank": index, "role": "holder", "reason": "", "member": one}


def snapshot(*slots: Json) -> Json:
    return {"name": "p", "ready": len(slots), "desired": len(slots), "slots": list(slots)}


def said(kind: str, at: float, index: int, generation: int = 1, **facts: str) -> Json:
    return {"kind": kind, "at": at, "slot": index, "generation": generation, "facts": facts}


def only(story: Story, version: int = 0) -> Json:
    [one] = story.since(version)["slots"]
    return dict(one)


def test_a_span_begins_when_the_state_was_entered_and_ends_with_the_next() -> None:
    story = Story()
    story.tell(100.0, snapshot(slot(0, member("starting", age_s=2.0))))
    story.tell(110.0, snapshot(slot(0, member("ready", age_s=3.0))))
    assert only(story)["spans"] == [["starting", 98.0, 107.0, 1], ["ready", 107.0, None, 1]]


def test_what_happened_between_two_moments_is_known_by_its_events() -> None:
    story = Story()
    story.tell(100.0, snapshot(slot(0, member("ready"))))
    story.tell(
        110.0,
        snapshot(slot(0, member("ready", 2, age_s=1.0))),
        [
            said("member_fault", 104.0, 0, cause="crash", reason="killed"),
            said("member_state", 104.0, 0, state="stopping"),
            said("member_state", 105.0, 0, state="gone"),
            said("member_state", 106.0, 0, 2, state="pending"),
            said("member_state", 107.0, 0, 2, state="starting"),
            said("member_state", 109.0, 0, 2, state="ready"),
        ],
    )
    lane = only(story)
    assert [(span[0], span[1], span[3]) for span in lane["spans"]] == [
        ("ready", 100.0, 1),
        ("stopping", 104.0, 1),
        ("pending", 106.0, 2),
        ("starting", 107.0, 2),
        ("ready", 109.0, 2),
    ]
    assert lane["faults"] == [[104.0, "crash", "killed", 1]]


def test_a_slot_that_did_not_change_is_not_sent_again_although_ages_are_rounded() -> None:
    story = Story()
    notice = {"node_id": "n", "text": "leaves", "left_s": 60.0}
    story.tell(100.0, snapshot(slot(0, member(age_s=5.0, notices=[notice], ends_in_s=9.0))))
    seen = story.version
    later = {**notice, "left_s": 50.04}
    story.tell(110.0, snapshot(slot(0, member(age_s=15.1, notices=[later], ends_in_s=-0.9))))
    assert story.since(seen)["slots"] == []
    assert only(story)["member"]["notices"][0]["at"] == 160.0
    story.tell(111.0, snapshot(slot(0, member(age_s=16.1, in_flight=3))))
    assert only(story, seen)["member"]["in_flight"] == 3


@pytest.mark.parametrize("left_s", [math.inf, None])
def test_a_notice_without_a_deadline_has_no_time(left_s: float | None) -> None:
    story = Story()
    notice = {"node_id": "n", "text": "may go", "left_s": left_s}
    story.tell(100.0, snapshot(slot(0, member(notices=[notice]))))
    assert only(story)["member"]["notices"][0]["at"] is None


def test_a_slot_that_was_closed_keeps_its_time_line_for_a_while() -> None:
    story = Story()
    story.tell(100.0, snapshot(slot(0, member()), slot(1, member())))
    story.tell(110.0, snapshot(slot(0, member(age_s=10))))
    assert story.lanes[1].as_json()["closed"]
    assert story.lanes[1].as_json()["spans"] == [["ready", 100.0, 110.0, 1]]
    story.tell(111.0 + KEPT_S, snapshot(slot(0, member(age_s=KEPT_S + 11))))
    assert story.since(0)["lanes"] == [0]
    assert only(story)["spans"] == [["ready", 100.0, None, 1]], "what is still so is not forgotten"


def test_what_is_kept_is_bounded() -> None:
    story = Story()
    for number in range(CLOSED_KEPT + 40):
        story.tell(100.0 + number / 100, snapshot(slot(number, member())))
    assert len(story.lanes) == CLOSED_KEPT + 1
    events = [said("member_state", 200.0 + n, 0, n, state="starting") for n in range(1000)]
    story.tell(1300.0, snapshot(slot(0, None)), events)
    assert len(story.lanes[0].spans) == SPANS_KEPT


def test_a_recorded_life_has_no_gap_and_no_overlap_in_any_lane() -> None:
    recording = record(eventful, nodes=20, spares=1)
    story = Story()
    for moment in recording.moments:
        story.tell(*moment)
    lanes = [lane.as_json() for lane in story.lanes.values()]
    assert sum(len(lane["faults"]) for lane in lanes) >= 4
    for lane in lanes:
        for earlier, later in zip(lane["spans"], lane["spans"][1:], strict=False):
            assert earlier[1] <= earlier[2] <= later[1]
        if lane["member"] is not None:
            assert lane["spans"][-1][0] == lane["member"]["state"]
            assert lane["spans"][-1][2] is None


def test_a_slow_reader_gets_all_that_changed_at_once() -> None:
    board = Board()
    board.publish(100.0, snapshot(slot(0, member()), slot(1, member())))
    version, told = board.wait(0, 0)
    assert told is not None
    board.publish(101.0, snapshot(slot(0, member(age_s=1)), slot(1, member("suspect"))))
    board.publish(102.0, snapshot(slot(0, member("suspect")), slot(1, member("suspect", age_s=1))))
    version, told = board.wait(version, 0)
    assert told is not None
    assert '"index":0' in told
    assert '"index":1' in told
    assert board.wait(version, 0) == (version, None)


def test_a_trouble_is_told_once_and_leaves_the_picture() -> None:
    board = Board()
    board.publish(100.0, snapshot(slot(0, member())))
    version, _ = board.wait(0, 0)
    board.complain("nobody answers")
    version, told = board.wait(version, 0)
    assert told is not None
    assert "nobody answers" in told
    board.complain("nobody answers")
    assert board.wait(version, 0)[1] is None
    assert '"index":0' in (board.wait(0, 0)[1] or "")
