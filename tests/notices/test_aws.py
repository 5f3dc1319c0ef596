"""AWS's metadata service: tokens, and 404 as the normal answer, against its fake."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anyio
import pytest

from pool.errors import SourceUnavailable
from pool.notices import AwsMaintenance, AwsRebalance, AwsSpotInterruption
from pool.planning.notice import NoticeKind
from pool.testing.notices import FakeAws
from tests.notices.asking import ask


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    with FakeAws() as fake:
        yield fake


def test_nothing_is_announced_then_an_interruption_then_nothing_again(aws: FakeAws) -> None:
    async def main() -> None:
        source = AwsSpotInterruption(aws.url)
        assert await source.check("n", "a") is None
        aws.interrupt(in_s=120)
        notice = await source.check("n", "a")
        assert notice is not None
        assert notice.kind is NoticeKind.PREEMPT
        assert not notice.advisory
        assert notice.deadline == pytest.approx(time.time() + 120, abs=3)
        assert await source.check("n", "a") is notice
        aws.withdraw()
        assert await source.check("n", "a") is None
        methods = [question.method for question in aws.questions]
        assert methods == ["PUT", "GET", "GET", "GET", "GET"], "one token for all"

    anyio.run(main)


def test_a_token_that_is_over_is_renewed_once(aws: FakeAws) -> None:
    async def main() -> None:
        source = AwsSpotInterruption(aws.url)
        assert await source.check("n", "a") is None
        aws.pass_time(3600)
        assert await source.check("n", "a") is None
        methods = [question.method for question in aws.questions]
        assert methods == ["PUT", "GET", "GET", "PUT", "GET"]
        aws.say_next(401)
        aws.say_next(200, b"token")
        with pytest.raises(SourceUnavailable, match="401"):
            await source.check("n", "a")

    anyio.run(main)


def test_a_clock_that_is_ahead_moves_no_deadline(aws: FakeAws) -> None:
    aws.clock_ahead_s = 3600
    aws.interrupt(in_s=120)
    notice = ask(AwsSpotInterruption(aws.url))
    assert notice is not None
    assert notice.deadline == pytest.approx(time.time() + 120, abs=4)


def test_a_rebalance_is_advisory_and_has_no_deadline(aws: FakeAws) -> None:
    aws.recommend_rebalance()
    notice = ask(AwsRebalance(aws.url))
    assert notice is not None
    assert (notice.kind, notice.advisory, notice.deadline) == (NoticeKind.REBALANCE, True, None)


def test_hibernation_begins_at_once(aws: FakeAws) -> None:
    aws.interrupt(in_s=120, action="hibernate")
    notice = ask(AwsSpotInterruption(aws.url))
    assert notice is not None
    assert notice.deadline == pytest.approx(time.time(), abs=3)


def test_scheduled_events(aws: FakeAws) -> None:
    source = AwsMaintenance(aws.url)
    assert ask(source) is None
    aws.schedule([{"State": "active", "Code": "instance-stop", "NotBefore": "1 Jan 2000 GMT"}])
    notice = ask(AwsMaintenance(aws.url))
    assert notice is not None
    assert notice.kind is NoticeKind.MAINTENANCE


def test_a_service_that_is_off_is_no_answer(aws: FakeAws) -> None:
    aws.disabled = True
    with pytest.raises(SourceUnavailable, match=r"no token.*403"):
        ask(AwsSpotInterruption(aws.url))


def test_a_container_one_hop_too_far_away_gets_no_answer_and_does_not_wait_long(
    aws: FakeAws,
) -> None:
    aws.hangs = True
    begun = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"[Tt]ime"):
        ask(AwsSpotInterruption(aws.url, timeout_s=0.3))
    assert time.monotonic() - begun < 3
