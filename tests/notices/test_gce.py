"""Google's metadata server: long polls, ETags, refusals, against its fake."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator

import anyio
import pytest

from pool.errors import SourceUnavailable
from pool.notices import GceMaintenanceEvent, GcePreemption, GceUpcomingMaintenance
from pool.planning.notice import NoticeKind
from pool.testing.notices import FakeGce
from tests.notices.asking import ask


@pytest.fixture
def gce() -> Iterator[FakeGce]:
    with FakeGce() as fake:
        yield fake


def test_a_preemption_is_known_at_once_and_its_deadline_does_not_move(gce: FakeGce) -> None:
    async def main() -> None:
        source = GcePreemption(gce.url, hang_s=20)
        assert await source.check("n", "a") is None
        asked = time.monotonic()
        threading.Timer(0.3, gce.preempt).start()
        notice = await source.check("n", "a")
        assert 0.25 < time.monotonic() - asked < 5, "it waits for the change, and no longer"
        assert notice is not None
        assert notice.kind is NoticeKind.PREEMPT
        assert notice.deadline == pytest.approx(time.time() + 30, abs=5)
        threading.Timer(0.2, lambda: gce.set("instance/preempted", "TRUE")).start()
        assert await source.check("n", "a") == notice, "said again, it is the same notice"
        query = gce.questions[1].query
        assert query["wait_for_change"] == "true"
        assert query["timeout_sec"] == "20"
        assert query["last_etag"]

    anyio.run(main)


def test_a_long_poll_that_ends_without_a_change_is_nothing_new(gce: FakeGce) -> None:
    async def main() -> None:
        source = GcePreemption(gce.url, hang_s=1)
        await source.check("n", "a")
        begun = time.monotonic()
        assert await source.check("n", "a") is None
        assert 0.8 < time.monotonic() - begun < 5

    anyio.run(main)


def test_the_header_that_google_wants_is_sent_and_nothing_forwarded(gce: FakeGce) -> None:
    ask(GcePreemption(gce.url))
    headers = gce.questions[0].headers
    assert headers["metadata-flavor"] == "Google"
    assert "x-forwarded-for" not in headers


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
def test_what_is_no_answer_is_neither_yes_nor_no(gce: FakeGce, status: int) -> None:
    """INV-9. A path that every VM has cannot be missing, but nothing is announced there."""
    gce.say_next(status, b"no", metadata_flavor="Google")
    source = GcePreemption(gce.url)
    if status == 404:
        assert ask(source) is None
    else:
        with pytest.raises(SourceUnavailable, match=str(status)):
            ask(source)
    gce.preempt()
    assert ask(source) is not None, "the next question does not wait for a change"


def test_whoever_answers_without_googles_header_is_somebody_else(gce: FakeGce) -> None:
    gce.say_next(200, b"TRUE")
    with pytest.raises(SourceUnavailable, match="no metadata server"):
        ask(GcePreemption(gce.url))


def test_a_server_that_does_not_wait_is_asked_no_faster_for_it(gce: FakeGce) -> None:
    async def main() -> None:
        gce.waits = False
        source = GcePreemption(gce.url)
        for _ in range(4):
            await source.check("n", "a")
        waited = ["wait_for_change" in question.query for question in gce.questions]
        assert waited == [False, True, False, True]

    anyio.run(main)


def test_maintenance_comes_and_is_over(gce: FakeGce) -> None:
    async def main() -> None:
        source = GceMaintenanceEvent(gce.url, lead_s=3600)
        gce.maintain()
        notice = await source.check("n", "a")
        assert notice is not None
        assert notice.deadline == pytest.approx(time.time() + 3600, abs=5)
        gce.maintain("NONE")
        assert await source.check("n", "a") is None

    anyio.run(main)


def test_a_machine_type_without_upcoming_maintenance_is_quiet(gce: FakeGce) -> None:
    gce.set("instance/upcoming-maintenance", None)
    assert ask(GceUpcomingMaintenance(gce.url)) is None
    gce.say_next(503, b"", metadata_flavor="Google")
    assert ask(GceUpcomingMaintenance(gce.url)) is None


def test_a_source_that_was_asked_can_be_sent_to_a_node(gce: FakeGce) -> None:
    source = GcePreemption(gce.url)
    ask(source)
    again = pickle.loads(pickle.dumps(source))
    assert ask(again) is None
    assert again.shared_as == source.shared_as
