"""The health verdict: its rows one by one, then INV-9 and the rest as properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.health import (
    HealthPolicy,
    HealthRecord,
    Probe,
    ProbeKind,
    Verdict,
    judge,
)
from tests.planning.strategies_supervision import HEALTH_POLICIES, HEALTH_RECORDS, PROBES, times

POLICY = HealthPolicy(failures=3, grace_s=30)
FAILING = [kind for kind in ProbeKind if kind.is_failure]
NO_EVIDENCE = [kind for kind in ProbeKind if not kind.is_evidence]


def run(
    policy: HealthPolicy, probes: list[Probe], *, first: float = 100.0, ready_since: float = 0.0
) -> list[Verdict]:
    """Judge probes one after the other, a period apart."""
    record, verdicts = HealthRecord(), []
    for number, probe in enumerate(probes):
        now = first + number * policy.period_s
        record, verdict, _ = judge(record, probe, policy, now=now, ready_since=ready_since)
        verdicts.append(verdict)
    return verdicts


# --- rows -----------------------------------------------------------------------------------------


def test_the_kinds_that_count_against_a_member_are_these() -> None:
    assert FAILING == [ProbeKind.ILL, ProbeKind.TIMEOUT, ProbeKind.STALE]
    assert NO_EVIDENCE == [ProbeKind.UNAVAILABLE, ProbeKind.LATE]


@pytest.mark.parametrize("kind", FAILING)
def test_failures_in_a_row_make_suspect_then_failed(kind: ProbeKind) -> None:
    verdicts = run(POLICY, [Probe(kind)] * 4)
    assert verdicts == [Verdict.SUSPECT, Verdict.SUSPECT, Verdict.FAILED, Verdict.FAILED]


def test_a_single_allowed_failure_ends_the_member_at_once() -> None:
    assert run(HealthPolicy(failures=1), [Probe(ProbeKind.ILL)]) == [Verdict.FAILED]


def test_failures_of_different_kinds_are_counted_together() -> None:
    assert run(POLICY, [Probe(kind) for kind in FAILING])[-1] is Verdict.FAILED


def test_one_good_answer_between_failures_starts_the_count_anew() -> None:
    ill, well = Probe(ProbeKind.ILL), Probe(ProbeKind.OK)
    verdicts = run(POLICY, [ill, ill, well, ill, ill])
    assert verdicts == [
        Verdict.SUSPECT,
        Verdict.SUSPECT,
        Verdict.HEALTHY,
        Verdict.SUSPECT,
        Verdict.SUSPECT,
    ]


def test_failures_in_the_grace_are_noted_and_count_from_its_very_end() -> None:
    ill = Probe(ProbeKind.ILL, "still loading")
    early = judge(HealthRecord(), ill, POLICY, now=39.75, ready_since=10.0)
    assert early == (
        HealthRecord(0, None, "still loading"),
        Verdict.UNCHANGED,
        "its own check failed (still loading): noted, not counted: it got ready less than 30 s ago",
    )
    later = judge(early[0], ill, POLICY, now=40.0, ready_since=10.0)
    assert later[:2] == (HealthRecord(1, None, "still loading"), Verdict.SUSPECT)


def test_reasons_read_as_sentences() -> None:
    def reason(record: HealthRecord, probe: Probe) -> str:
        return judge(record, probe, POLICY, now=100, ready_since=0)[2]

    fresh, failing = HealthRecord(), HealthRecord(2, 90.0, "slow")
    assert reason(fresh, Probe(ProbeKind.OK)) == "it answered that it is well: as before"
    assert reason(failing, Probe(ProbeKind.OK)) == (
        "it answered that it is well: after 2 failure(s) in a row"
    )
    assert reason(fresh, Probe(ProbeKind.TIMEOUT)) == (
        "it did not answer in time: failure 1 of 3 in a row"
    )
    assert reason(failing, Probe(ProbeKind.STALE, "12 s old")) == (
        "its answer was too old (12 s old): failure 3 of 3 in a row"
    )
    assert reason(failing, Probe(ProbeKind.LATE, "by 4 s")) == (
        "our own loop ran late (by 4 s): which says nothing about the member"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("period_s", 0),
        ("period_s", math.inf),
        ("period_s", True),
        ("timeout_s", -1),
        ("timeout_s", math.nan),
        ("timeout_s", "2"),
        ("failures", 0),
        ("failures", 1.5),
        ("failures", True),
        ("grace_s", -0.1),
        ("grace_s", math.inf),
        ("grace_s", False),
    ],
)
def test_a_policy_that_cannot_be_right_is_refused_by_name(field: str, value: object) -> None:
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError) as refused:
        HealthPolicy(**wrong)
    assert refused.value.field == field


def test_a_policy_prints_as_it_can_be_typed() -> None:
    policy = HealthPolicy(failures=2, grace_s=0)
    assert eval(repr(policy)) == policy


# --- safety ---------------------------------------------------------------------------------------


@given(
    HEALTH_RECORDS,
    st.sampled_from(NO_EVIDENCE),
    HEALTH_POLICIES,
    times(),
    times(),
    st.text(max_size=9),
)
def test_a_checker_that_cannot_ask_and_a_late_loop_change_nothing(
    record: HealthRecord,
    kind: ProbeKind,
    policy: HealthPolicy,
    now: float,
    ready_since: float,
    detail: str,
) -> None:
    """INV-9."""
    after, verdict, _ = judge(record, Probe(kind, detail), policy, now=now, ready_since=ready_since)
    assert after == record
    assert verdict is Verdict.UNCHANGED


@given(st.lists(PROBES, max_size=20), HEALTH_POLICIES, times(), times())
def test_probes_that_prove_nothing_can_be_left_out_of_a_story(
    probes: list[Probe], policy: HealthPolicy, now: float, ready_since: float
) -> None:
    """INV-9, over whole stories: the record is what it would be without them."""
    with_all = without = HealthRecord()
    for probe in probes:
        with_all, _, _ = judge(with_all, probe, policy, now=now, ready_since=ready_since)
        if probe.kind.is_evidence:
            without, _, _ = judge(without, probe, policy, now=now, ready_since=ready_since)
    assert with_all == without


@given(st.lists(PROBES, max_size=20), HEALTH_POLICIES)
def test_a_member_fails_only_after_enough_failures_in_a_row(
    probes: list[Probe], policy: HealthPolicy
) -> None:
    evidence = [probe for probe in probes if probe.kind.is_evidence]
    evidence = [probe for probe in evidence if probe.kind is not ProbeKind.UNREACHABLE]
    verdicts = run(policy, evidence)
    for index, verdict in enumerate(verdicts):
        last = evidence[max(0, index + 1 - policy.failures) : index + 1]
        enough = len(last) == policy.failures and all(probe.kind.is_failure for probe in last)
        assert (verdict is Verdict.FAILED) == enough


@given(HEALTH_RECORDS, PROBES, HEALTH_POLICIES, times(), st.floats(0, 29.75))
def test_nothing_fails_a_member_in_its_grace(
    record: HealthRecord, probe: Probe, policy: HealthPolicy, ready_since: float, age_s: float
) -> None:
    _, verdict, _ = judge(record, probe, policy, now=ready_since + age_s, ready_since=ready_since)
    if age_s < policy.grace_s - 1e-6:
        silent = probe.kind is ProbeKind.UNREACHABLE
        assert verdict in ([Verdict.SUSPECT] if silent else [Verdict.HEALTHY, Verdict.UNCHANGED])


@given(HEALTH_RECORDS, PROBES, HEALTH_POLICIES, times(), times())
def test_every_verdict_has_its_reason_and_says_what_was_seen(
    record: HealthRecord, probe: Probe, policy: HealthPolicy, now: float, ready_since: float
) -> None:
    _, _, reason = judge(record, probe, policy, now=now, ready_since=ready_since)
    assert reason
    assert probe.detail in reason


# --- progress -------------------------------------------------------------------------------------


@given(st.lists(PROBES, max_size=20), HEALTH_POLICIES, st.sampled_from(FAILING))
def test_a_member_that_stays_ill_fails_after_the_allowed_failures_whatever_came_before(
    before: list[Probe], policy: HealthPolicy, kind: ProbeKind
) -> None:
    assert run(policy, before + [Probe(kind)] * policy.failures)[-1] is Verdict.FAILED


@given(st.lists(PROBES, max_size=20), HEALTH_POLICIES)
def test_one_good_answer_makes_a_member_healthy_whatever_came_before(
    before: list[Probe], policy: HealthPolicy
) -> None:
    assert run(policy, [*before, Probe(ProbeKind.OK)])[-1] is Verdict.HEALTHY


@given(st.lists(PROBES, max_size=20), HEALTH_POLICIES)
def test_a_member_that_cannot_be_reached_is_suspect_and_never_failed_for_that(
    probes: list[Probe], policy: HealthPolicy
) -> None:
    """INV-1, INV-9: silence is no death, and counts neither for nor against the member."""
    silence = Probe(ProbeKind.UNREACHABLE)
    before = run(policy, probes)
    after = run(policy, [each for probe in probes for each in (silence, probe)])
    assert after[1::2] == before
    assert set(after[0::2]) <= {Verdict.SUSPECT}
