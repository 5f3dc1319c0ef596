from __future__ import annotations

import signal
from typing import Any

import pytest

from pool.process.exits import Exit
from pool.slurm.course import Course, Outcome, Phase
from pool.slurm.job import SlurmJob
from pool.slurm.judge import Kind, Verdict

LOSS = Verdict(Kind.FAIL, "node n2 (rank 1) is lost", 1, "web")


def course_of(**fields: Any) -> Course:
    fields = {"requeue": "notice", "signal": "USR1@100", **fields}
    job = SlurmJob(name="a", nodes=2, driver_grace_s=20.0, requeue_margin_s=10.0, **fields)
    return Course(job, 1000.0)


def warned(deadline: float = 2000.0, **fields: Any) -> Course:
    course = course_of(**fields)
    assert course.warn()
    course.take_notice({"deadline": deadline})
    return course


def test_a_job_is_brought_up_runs_ends_and_has_ended() -> None:
    course = course_of()
    assert (course.phase, course.began_at, course.ready_at) == ("bring-up", 1000.0, None)
    course.run(1010.0)
    assert (course.phase, course.ready_at) == ("running", 1010.0)
    outcome = Outcome(3, "why")
    course.end(outcome)
    assert (course.phase, course.outcome) == ("ending", outcome)
    course.close()
    assert course.phase is Phase.ENDED


@pytest.mark.parametrize(
    ("given", "name"), [("USR1@100", "SIGUSR1"), ("SIGUSR2@9", "SIGUSR2"), ("", None)]
)
def test_the_warning_is_known_by_the_signals_full_name(given: str, name: str | None) -> None:
    warning = course_of(signal=given, requeue="never").warning
    assert (warning and warning[0]) == name


def test_only_the_first_warning_is_news_and_none_at_the_end() -> None:
    course = course_of()
    assert course.warn()
    assert not course.warn()
    late = course_of()
    late.end(Outcome(0, "done"))
    assert not late.warn()
    late.close()
    assert not late.warn()
    assert not late.may_go_back


def test_only_the_first_signal_asks() -> None:
    course = course_of()
    assert course.ask(signal.SIGTERM, 1000.0)
    assert not course.ask(signal.SIGINT, 1001.0)
    assert course.asked == signal.SIGTERM


def test_a_job_that_nobody_warned_or_that_is_not_to_goes_not_back() -> None:
    assert not course_of().may_go_back
    assert not course_of().must_go_back(9e9)
    never = warned(requeue="never")
    assert not never.may_go_back
    assert not never.must_go_back(9e9)


def test_a_warned_job_goes_back_while_there_is_time_for_it() -> None:
    course = warned(deadline=2000.0)
    assert course.may_go_back
    assert not course.must_go_back(1969.9)
    assert course.must_go_back(1970.0), "the driver's grace and the margin before its end"


def test_a_job_whose_end_is_not_yet_known_need_not_go_back() -> None:
    course = course_of()
    course.warn()
    assert course.may_go_back
    assert not course.must_go_back(9e9)


def test_who_ends_a_warned_job_early_does_not_want_it_back() -> None:
    early, late = warned(deadline=2000.0), warned(deadline=2000.0)
    assert early.ask(signal.SIGTERM, 1500.0)
    assert not early.may_go_back
    assert not early.must_go_back(1990.0)
    assert late.ask(signal.SIGTERM, 1980.0), "Slurm asks, as the time is over"
    assert late.may_go_back


def test_a_loss_is_the_outcome_and_puts_only_a_warned_job_back() -> None:
    outcome = course_of().failed(LOSS)
    assert outcome == Outcome(1, LOSS.why, 1, "web", requeue=False)
    assert warned().failed(LOSS).requeue


@pytest.mark.parametrize(
    ("ended", "had_to", "code", "goes_back"),
    [
        (Exit(code=0), False, 0, False),
        (Exit(code=0), True, 0, True),
        (Exit(code=5), False, 5, True),
        (Exit(signal=9), False, 137, True),
    ],
)
def test_a_warned_job_goes_back_unless_its_driver_is_through(
    ended: Exit, had_to: bool, code: int, goes_back: bool
) -> None:
    outcome = warned().driver_ended(ended, had_to=had_to)
    assert (outcome.code, outcome.requeue) == (code, goes_back)
    assert outcome.why == f"the driver ended ({ended})"
    assert not course_of().driver_ended(ended, had_to=had_to).requeue
