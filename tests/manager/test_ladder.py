"""The way out, rung by rung, in virtual time: each rung is tried, each trouble is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from pool.errors import MemberLost
from pool.manager.ladder import Descent, MemberReport, let_work_end, put_down
from pool.manager.member import Incarnation
from pool.planning.drain import DrainPolicy, Rung
from pool.planning.restart import Cause
from pool.testing import run
from tests.manager.members import Told, member

POLICY = DrainPolicy(timeout_s=30)


def descend(
    prepare: Callable[[Incarnation[str]], object] = lambda one: None,
    deadline: float | None = None,
    while_it_goes: Callable[[Incarnation[str]], Coroutine[Any, Any, None]] | None = None,
    ways: dict[str, float | Exception] | None = None,
) -> tuple[MemberReport, Told, float]:
    """Take a member all the way down, and return its report, what was asked, and when it ended."""

    async def main() -> tuple[MemberReport, Told, float]:
        reports: list[MemberReport] = []
        one = member()
        hooks = Told(one, **(ways or {}))
        prepare(one)
        way = Descent.begin("a test", POLICY, deadline)
        async with anyio.create_task_group() as tasks:
            if while_it_goes is not None:
                tasks.start_soon(while_it_goes, one)
            await let_work_end(hooks, one, way)
            reports.append(await put_down(hooks, one, way))
        return reports[0], hooks, anyio.current_time()

    return run(main, limit_s=3600)


def steps(hooks: Told) -> list[str]:
    return [step for step, _ in hooks.steps]


def test_a_clean_end_goes_through_every_rung_once_and_has_no_troubles() -> None:
    report, hooks, _ = descend(ways={"drain": 2, "hook": 3})
    assert steps(hooks) == ["drain", "hook", "kill", "release"]
    assert (report.rung, report.troubles, report.took_s) == ("hook", (), 5)
    assert (report.member, report.reason) == ("p/0.1", "a test")


@pytest.mark.parametrize("step", ["drain", "hook"])
@pytest.mark.parametrize("way", [1e6, RuntimeError("no"), MemberLost("p/0.1", Cause.CRASH, "gone")])
def test_whatever_a_rung_does_the_next_ones_are_tried_within_the_deadline(
    step: str, way: float | Exception
) -> None:
    report, hooks, ended = descend(ways={step: way})
    assert steps(hooks) == ["drain", "hook", "kill", "release"]
    assert ended <= POLICY.timeout_s
    if step == "hook" or not isinstance(way, MemberLost):
        assert len(report.troubles) == 1, report
    assert report.rung == ("kill" if step == "hook" else "hook")


@pytest.mark.parametrize("deadline", [0.0, 0.5, 3.0, 10.0, 1e9])
def test_children_get_less_time_than_their_parent_has(deadline: float) -> None:
    _, hooks, ended = descend(deadline=deadline, ways={"drain": 1e6, "hook": 1e6})
    whole = min(deadline, POLICY.timeout_s)
    asked_at = dict(hooks.steps)
    for step, budget_s in hooks.budgets.items():
        if step != "release":
            assert asked_at[step] + budget_s < whole
    assert ended <= whole


def test_work_in_flight_is_waited_for_before_the_member_is_asked() -> None:
    async def answer(one: Incarnation[str]) -> None:
        await anyio.sleep(4)
        one.call_ended()
        await anyio.sleep(1)
        one.call_ended()

    def busy(one: Incarnation[str]) -> None:
        one.call_began()
        one.call_began()

    report, hooks, _ = descend(busy, while_it_goes=answer)
    assert hooks.steps[0] == ("drain", 5.0)
    assert report.troubles == ()


def test_work_that_does_not_end_is_told_and_left_behind() -> None:
    report, hooks, ended = descend(lambda one: one.call_began())
    assert "drain" not in steps(hooks)
    assert report.troubles == ("work was still in flight after 15.0 s",)
    assert ended == pytest.approx(15)


def test_a_member_that_is_dead_is_not_asked_for_anything_and_its_group_goes() -> None:
    report, hooks, _ = descend(
        lambda one: one.dead.set(), ways={"drain": MemberLost("p", Cause.CRASH, "")}
    )
    assert "hook" not in steps(hooks)
    assert steps(hooks)[-1] == "release"
    assert (report.rung, report.troubles) == ("gone", ())


def test_a_death_that_is_never_confirmed_is_told_and_the_group_goes_all_the_same() -> None:
    """INV-4: a node that fell silent does not keep its group."""
    report, hooks, ended = descend(ways={"death": 1})
    assert steps(hooks)[-1] == "release"
    assert "was not confirmed" in report.troubles[-1]
    assert ended <= POLICY.timeout_s


@pytest.mark.parametrize("way", [1e6, RuntimeError("the GCS is gone")])
def test_a_group_that_cannot_be_removed_is_told(way: float | Exception) -> None:
    report, _, _ = descend(ways={"release": way})
    assert "placement group could not be removed" in report.troubles[-1]


def test_a_deadline_that_has_passed_still_kills_and_removes() -> None:
    """INV-4: anything else would be a leak."""
    report, hooks, _ = descend(deadline=-5.0)
    assert steps(hooks) == ["kill", "release"]
    assert report.rung == "kill"


def test_what_went_wrong_below_is_part_of_the_report() -> None:
    async def main() -> MemberReport:
        one = member()
        hooks = Told(one)
        hooks.troubles = ("host 1: no farewell",)
        return await put_down(hooks, one, Descent.begin("a test", POLICY, None))

    report = run(main)
    assert (report.rung, report.troubles) == ("kill", ("host 1: no farewell",))


def test_a_cancellation_cannot_stop_the_way_down() -> None:
    """INV-4."""

    async def main() -> list[str]:
        one = member()
        hooks = Told(one, hook=5)
        with anyio.move_on_after(1):
            await put_down(hooks, one, Descent.begin("a test", POLICY, None))
        return steps(hooks)

    assert run(main) == ["hook", "kill", "release"]


@pytest.mark.parametrize(
    ("rung", "ran", "cut"),
    [
        (Rung.HOOK, ["drain", "hook", "kill", "release"], "the wait for work in flight"),
        (Rung.KILL, ["drain", "kill", "release"], "the wait for work in flight"),
    ],
)
def test_rungs_can_be_skipped_while_the_first_of_them_runs(
    rung: Rung, ran: list[str], cut: str
) -> None:
    async def main() -> None:
        one = member()
        hooks = Told(one, drain=1e6)
        way = Descent.begin("a test", POLICY, None)

        async def skip() -> None:
            await anyio.sleep(1)
            way.skip_to(rung)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(skip)
            await let_work_end(hooks, one, way)
            report = await put_down(hooks, one, way)
            assert steps(hooks) == ran
            assert report.troubles == (f"{cut} was cut short",)
            assert report.took_s == 1

    run(main)


def test_a_cancellation_by_asyncio_leads_to_the_kill_rung_and_death_is_heard_all_the_same() -> None:
    """INV-4: a loop that is torn down has ended the task that held the lifeline."""

    async def main() -> None:
        one = member()
        hooks = Told(one, hook=1e6, death=1)
        way = Descent.begin("a test", POLICY, None)
        task = asyncio.create_task(put_down(hooks, one, way))
        await anyio.sleep(1)
        task.cancel()
        report = await task
        assert steps(hooks) == ["hook", "kill", "lifeline", "release"]
        assert (report.rung, report.took_s) == ("kill", 1)
        assert report.troubles == ("it was cancelled from outside, and cut short",)

    run(main)


def test_a_bring_up_that_still_runs_is_ended_first() -> None:
    async def main() -> None:
        one = member()
        one.brought_up = anyio.Event()
        one.info, one.has_opened = None, False
        hooks = Told(one)

        async def bring_up() -> None:
            with one.bring_up:
                await anyio.sleep_forever()
            assert steps(hooks) == []
            one.brought_up.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bring_up)
            await anyio.sleep(1)
            await put_down(hooks, one, Descent.begin("a test", POLICY, None))
        assert steps(hooks) == ["kill", "release"]

    run(main)
