"""Notices and failure domains: examples, then P11 as properties."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hypothesis import given

from pool.planning.domains import Concern, spread_notice
from tests.planning.strategies_supervision import DOMAINS, MEMBERSHIPS, NODES, NOTICES

GANGS = {0: ["a0", "a1"], 1: ["b0", "b1"], 2: ["c0"]}


def urgency(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline


# --- examples -------------------------------------------------------------------------------------


def test_a_notice_for_one_host_concerns_the_whole_gang_and_no_other() -> None:
    assert spread_notice({"a1": 500.0}, GANGS) == {
        0: Concern(500.0, "a1", "its node a1 goes away by 500")
    }


def test_a_notice_for_one_node_of_a_slice_concerns_each_gang_on_it() -> None:
    domains = {"a1": "slice-0", "b0": "slice-0"}
    assert spread_notice({"a1": 500.0}, GANGS, domains) == {
        0: Concern(500.0, "a1", "its node a1 goes away by 500"),
        1: Concern(
            500.0, "a1", "node a1 goes away by 500, and with it slice-0, where its node b0 is"
        ),
    }


def test_the_nearest_deadline_counts_and_one_that_nobody_knows_comes_last() -> None:
    concerns = spread_notice({"a0": None, "a1": 900.0, "b0": 70.0, "b1": 60.0, "c0": None}, GANGS)
    assert {slot: (each.deadline, each.node) for slot, each in concerns.items()} == {
        0: (900.0, "a1"),
        1: (60.0, "b1"),
        2: (None, "c0"),
    }
    assert concerns[2].reason == "its node c0 goes away at a time nobody knows"


def test_a_notice_without_a_deadline_may_say_so_with_infinity() -> None:
    (concern,) = spread_notice({"c0": math.inf}, GANGS).values()
    assert concern.reason == "its node c0 goes away at a time nobody knows"


def test_a_nearer_notice_elsewhere_in_the_domain_comes_before_the_own_one() -> None:
    domains = {"a0": "slice-0", "c0": "slice-0"}
    concerns = spread_notice({"a0": 900.0, "c0": 100.0}, {0: ["a0"]}, domains)
    assert concerns[0].deadline == 100.0
    assert concerns[0].node == "c0"


def test_a_gang_does_not_carry_a_notice_on_to_the_gangs_beside_it() -> None:
    membership = {0: ["shared", "a"], 1: ["shared", "b"], 2: ["b"]}
    assert set(spread_notice({"a": 5.0}, membership)) == {0}


# --- safety ---------------------------------------------------------------------------------------


@given(NOTICES, MEMBERSHIPS, DOMAINS)
def test_exactly_the_slots_on_a_concerned_domain_are_concerned_by_its_nearest_deadline(
    notices: Mapping[str, float | None],
    membership: Mapping[int, list[str]],
    domains: Mapping[str, str],
) -> None:
    """P11, against the definition written out."""

    def together(one: str, other: str) -> bool:
        return one == other or (one in domains and domains[one] == domains.get(other))

    concerns = spread_notice(notices, membership, domains)
    for slot, nodes in membership.items():
        deadlines = [
            urgency(deadline)
            for noticed, deadline in notices.items()
            if any(together(noticed, node) for node in nodes)
        ]
        assert (slot in concerns) == bool(deadlines)
        if deadlines:
            assert urgency(concerns[slot].deadline) == min(deadlines)
    assert list(concerns) == [slot for slot in membership if slot in concerns]


@given(NOTICES, MEMBERSHIPS, DOMAINS)
def test_every_concern_names_a_notice_that_was_given_and_its_deadline(
    notices: Mapping[str, float | None],
    membership: Mapping[int, list[str]],
    domains: Mapping[str, str],
) -> None:
    for concern in spread_notice(notices, membership, domains).values():
        assert concern.deadline == notices[concern.node]
        assert concern.node in concern.reason


@given(NOTICES, MEMBERSHIPS, DOMAINS)
def test_one_more_notice_never_puts_a_deadline_off(
    notices: Mapping[str, float | None],
    membership: Mapping[int, list[str]],
    domains: Mapping[str, str],
) -> None:
    """INV-7 holds on while notices come in."""
    before = spread_notice(notices, membership, domains)
    for node in NODES:
        after = spread_notice({node: 50.0, **notices}, membership, domains)
        for slot, concern in before.items():
            assert urgency(after[slot].deadline) <= urgency(concern.deadline)
