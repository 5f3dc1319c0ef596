"""The soak's own eyes: what is wrong is seen, and who was struck is excused for a while."""

from __future__ import annotations

from typing import Any

import pytest

from pool.cluster.interface import Identity
from tests.soak.script import Kind
from tests.soak.strikes import GUILT_S, Ledger, Strike
from tests.soak.watch import Seen, at_odds, twice


def identity(slot: int, generation: int) -> Identity:
    return Identity(pool="p", instance="x", slot=slot, generation=generation, level="replica")


def seen(slot: int, generation: int) -> Seen:
    return Seen(f"{slot}{generation}", identity(slot, generation), 1, "n", "ALIVE")


def picture(**of_the_second: Any) -> dict[str, Any]:
    slot = {"role": "holder", "reason": "", "generation": 1, "state": "ready", "rank": 0, "slot": 0}
    second = {**slot, "slot": 1, "rank": 1, **of_the_second}
    return {"desired": 2, "spares": 0, "settled": True, "failed": None, "slots": [slot, second]}


LIVE = [seen(0, 1), seen(1, 1)]
HELD = [(identity(0, 1), "CREATED"), (identity(1, 1), "CREATED")]


def test_a_pool_that_is_as_it_says_is_not_at_odds() -> None:
    assert at_odds("p", picture(), LIVE, HELD) == []
    assert twice(LIVE, HELD) == []


@pytest.mark.parametrize(
    ("shown", "live", "held", "says"),
    [
        (picture(rank=0), LIVE, HELD, "rank 0 is held 2 times"),
        (picture(state="starting"), LIVE, HELD, "starting without a reason"),
        (picture(generation=2), LIVE, HELD, "alive, and nobody's"),
        (picture(), LIVE[:1], HELD, "1 actors, 2 are meant"),
        (picture(), LIVE, HELD[:1], "1 groups, 2 are meant"),
        (picture() | {"desired": 3}, LIVE, HELD, "2 ready, 3 are meant"),
        (picture() | {"failed": "too often"}, LIVE, HELD, "gave up: too often"),
    ],
)
def test_what_is_at_odds_is_said(
    shown: dict[str, Any], live: list[Seen], held: list[tuple[Identity, str]], says: str
) -> None:
    assert any(says in sentence for sentence in at_odds("p", shown, live, held))


def test_two_of_one_slot_are_seen() -> None:
    [actors] = twice([*LIVE, seen(1, 2)], HELD)
    assert "slot 1 has 2 live replica actors" in actors
    [groups] = twice(LIVE, [*HELD, (identity(0, 2), "PENDING")])
    assert "slot 0 has 2 live placement groups" in groups


def test_only_who_was_struck_is_excused_and_only_for_a_while() -> None:
    ledger = Ledger()
    strike = ledger.add(Strike(Kind.HOST_KILLED, "p", 100.0, frozenset({(0, 1)}), until=100.0))
    assert ledger.excuses("p", (0, 1), 101.0)
    assert not ledger.excuses("p", (1, 1), 101.0)
    assert not ledger.excuses("q", (0, 1), 101.0)
    ledger.hear("p", {"slot": 0, "generation": 1, "kind": "member_fault", "facts": {}, "at": 101.0})
    assert ledger.excuses("p", None, 100 + 2 * GUILT_S), "it is not overcome yet"
    ledger.settled("p", 103.0)
    assert (strike.detected_at, strike.recovered_at) == (101.0, 103.0)
    assert not ledger.excuses("p", None, 104 + GUILT_S)
