"""What a pool says of itself: kept, logged, followed, and never printed."""

from __future__ import annotations

import logging

import pytest

from pool.manager.events import KEPT, Event, EventKind, EventLog


def make() -> EventLog:
    return EventLog("p", lambda: 5.0)


def test_events_are_kept_in_order_up_to_a_limit_and_followed_until_the_follower_ends_it() -> None:
    emit = make()
    heard: list[Event] = []
    end = emit.follow(heard.append)
    emit(EventKind.POOL_OPENED, instance="abc")
    end()
    for number in range(KEPT):
        emit(EventKind.SLOT_OPENED, number)
    assert [event.kind for event in heard] == [EventKind.POOL_OPENED]
    assert heard[0].at == 5.0
    assert len(emit.kept) == KEPT
    assert [event.slot for event in emit.kept] == list(range(KEPT))
    end()  # Ending twice is no error.


@pytest.mark.parametrize("kind", EventKind)
def test_every_event_is_logged_with_its_facts_and_only_trouble_above_info(
    kind: EventKind, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger="pool"):
        make()(kind, 3, 2, cause="crash")
    [record] = caplog.records
    trouble = {
        EventKind.POOL_FAILED,
        EventKind.POOL_FENCED,
        EventKind.POOL_CLAMPED,
        EventKind.POOL_HURRIED,
        EventKind.HOOK_FAILED,
        EventKind.LEFTOVER,
        EventKind.GANG_FAILED,
        EventKind.MEMBER_FAULT,
        EventKind.MEMBER_CUT_OFF,
        EventKind.MEMBER_NOTICE,
        EventKind.SLOT_WAITING,
        EventKind.SOURCE_UNAVAILABLE,
    }
    assert (record.levelno > logging.INFO) == (kind in trouble)
    for part in (f"event='{kind}'", "pool='p'", "slot=3", "generation=2", "cause='crash'"):
        assert part in record.getMessage()
    assert capsys.readouterr() == ("", ""), "a library does not write on standard output"


def test_an_event_reads_as_a_line() -> None:
    event = Event(EventKind.MEMBER_STATE, 1.0, "p", 3, 2, {"state": "ready"})
    assert str(event) == "member_state slot 3.2 state=ready"
    assert str(Event(EventKind.POOL_CLOSED, 1.0, "p")) == "pool_closed"


def test_a_follower_that_ends_itself_while_it_is_told_silences_nobody_else() -> None:
    emit = make()
    heard: list[str] = []

    def once(event: Event) -> None:
        heard.append("once")
        end()

    end = emit.follow(once)
    emit.follow(lambda event: heard.append("always"))
    emit(EventKind.POOL_OPENED)
    emit(EventKind.POOL_CLOSED)
    assert heard == ["once", "always", "always"]
