"""Azure's scheduled events: own name, slow first answer, no acknowledgement, against the fake."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anyio
import pytest

from pool.errors import SourceUnavailable
from pool.notices import AzureScheduledEvents
from pool.planning.notice import NoticeKind
from pool.testing.notices import FakeAzure
from tests.notices.asking import ask


@pytest.fixture
def azure() -> Iterator[FakeAzure]:
    with FakeAzure(vm_name="set_3") as fake:
        yield fake


def test_an_event_for_this_machine_until_it_is_over(azure: FakeAzure) -> None:
    async def main() -> None:
        source = AzureScheduledEvents(azure.url)
        assert await source.check("n", "a") is None
        azure.announce(resources=["set_1", "set_2"])
        assert await source.check("n", "a") is None, "it is others'"
        event = azure.announce("Preempt", in_s=30, resources=["set_1", "SET_3"])
        notice = await source.check("n", "a")
        assert notice is not None
        assert notice.kind is NoticeKind.PREEMPT
        assert notice.deadline == pytest.approx(time.time() + 30, abs=3)
        assert notice.reason.split()[0] == event
        azure.begin(event)
        started = await source.check("n", "a")
        assert started is not None
        assert started.deadline == pytest.approx(time.time(), abs=3)
        azure.end(event)
        assert await source.check("n", "a") is None
        assert azure.acknowledged == []
        assert {question.method for question in azure.questions} == {"GET"}

    anyio.run(main)


def test_another_machines_change_is_no_new_notice(azure: FakeAzure) -> None:
    async def main() -> None:
        source = AzureScheduledEvents(azure.url)
        azure.announce("Reboot", in_s=900)
        first = await source.check("n", "a")
        azure.announce("Reboot", in_s=900, resources=["set_1"])
        assert await source.check("n", "a") == first

    anyio.run(main)


def test_it_acknowledges_when_it_is_told_to(azure: FakeAzure) -> None:
    async def main() -> None:
        source = AzureScheduledEvents(azure.url)
        event = azure.announce("Preempt")
        await source.acknowledge(event)
        assert azure.acknowledged == [event]
        with pytest.raises(SourceUnavailable, match="not acknowledged"):
            await source.acknowledge("nonsense")

    anyio.run(main)


def test_the_first_answer_may_take_long_and_later_ones_may_not() -> None:
    with FakeAzure(first_delay_s=0.6) as azure:
        source = AzureScheduledEvents(azure.url, timeout_s=0.2, first_timeout_s=10)

        async def main() -> None:
            azure.announce("Preempt")
            assert await source.check("n", "a") is not None
            azure.delay_s = 1.0
            with pytest.raises(SourceUnavailable):
                await source.check("n", "a")

        anyio.run(main)


def test_a_frozen_machine_lives_on(azure: FakeAzure) -> None:
    azure.announce("Freeze", in_s=None)
    notice = ask(AzureScheduledEvents(azure.url))
    assert notice is not None
    assert (notice.kind, notice.advisory) == (NoticeKind.MAINTENANCE, True)


def test_what_azure_refuses_is_no_answer(azure: FakeAzure) -> None:
    azure.say_next(404)
    with pytest.raises(SourceUnavailable, match="no name"):
        ask(AzureScheduledEvents(azure.url))
    azure.say_next(400, b"bad")
    with pytest.raises(SourceUnavailable, match="400"):
        ask(AzureScheduledEvents(azure.url, vm_name="set_3"))
