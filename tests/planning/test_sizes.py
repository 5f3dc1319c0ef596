"""Valid sizes and victims: examples, then properties."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.sizes import Candidate, choose_victims, largest_reachable, valid_sizes
from tests.planning.strategies_supervision import candidate_lists

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=8)


def candidate(
    slot: int,
    *,
    ready: bool = True,
    healthy: bool = True,
    leaving: bool = False,
    in_flight: int = 0,
) -> Candidate:
    return Candidate(slot, ready, healthy, leaving, in_flight)


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "sizes"),
    [(8, (8,)), (0, (0,)), ([4, 2, 8, 2], (2, 4, 8)), ({3}, (3,)), (range(1, 4), (1, 2, 3))],
)
def test_a_request_is_read_as_ascending_sizes(request_: Any, sizes: tuple[int, ...]) -> None:
    assert valid_sizes(request_) == sizes


@pytest.mark.parametrize(
    "request_",
    [-1, True, False, [], [0], [2, 0], [-3], [2, True], [2.0], ["2"], "24", b"2", 2.0, None],
)
def test_a_request_that_names_no_size_is_refused(request_: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        valid_sizes(request_)
    assert refused.value.field == "size"


@pytest.mark.parametrize(
    ("ready", "size"), [(0, None), (1, None), (2, 2), (3, 2), (4, 4), (8, 8), (99, 8)]
)
def test_the_largest_size_that_is_covered_is_taken(ready: int, size: int | None) -> None:
    assert largest_reachable((2, 4, 8), ready) == size


def test_a_pool_scaled_to_nothing_has_reached_it() -> None:
    assert largest_reachable((0,), 0) == 0
    assert largest_reachable((0,), 3) == 0


@given(SIZES)
def test_sizes_are_ascending_unique_and_those_asked_for(request_: list[int]) -> None:
    sizes = valid_sizes(request_)
    assert set(sizes) == set(request_)
    assert all(low < high for low, high in pairwise(sizes))


@given(SIZES, st.integers(0, 60))
def test_the_size_taken_is_covered_and_no_larger_one_is(request_: list[int], ready: int) -> None:
    sizes = valid_sizes(request_)
    size = largest_reachable(sizes, ready)
    assert size == max((other for other in sizes if other <= ready), default=None)


# --- victims --------------------------------------------------------------------------------------


def test_victims_go_in_the_order_of_what_is_lost_with_them() -> None:
    candidates = [
        candidate(0, ready=False),
        candidate(1, healthy=False),
        candidate(2, leaving=True),
        candidate(3),
        candidate(4),
        candidate(5, ready=False, healthy=False, leaving=True),
    ]
    assert choose_victims(candidates, 5) == (
        (5, "it is not ready yet"),
        (0, "it is not ready yet"),
        (1, "it is unhealthy"),
        (2, "its node will go away"),
        (4, "it has the highest slot of those left"),
    )


def test_the_least_busy_goes_first_when_that_is_asked_for() -> None:
    candidates = [
        candidate(0, in_flight=0),
        candidate(1, in_flight=2),
        candidate(2, in_flight=0),
        candidate(3, in_flight=1),
        candidate(4, leaving=True, in_flight=9),
        candidate(5, leaving=True, in_flight=10),
    ]
    chosen = choose_victims(candidates, 5, least_busy=True)
    assert [slot for slot, _ in chosen] == [4, 5, 2, 0, 3]
    assert chosen[0][1] == "its node will go away"
    assert chosen[2][1] == "it is the least busy of those left"


def test_a_negative_number_of_victims_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        choose_victims([], -1)
    assert refused.value.field == "n"


@given(candidate_lists(), st.integers(0, 15), st.booleans())
def test_victims_are_as_many_as_asked_for_each_once_and_with_a_reason(
    candidates: list[Candidate], n: int, least_busy: bool
) -> None:
    chosen = choose_victims(candidates, n, least_busy=least_busy)
    slots = [slot for slot, _ in chosen]
    assert len(chosen) == min(n, len(candidates))
    assert len(set(slots)) == len(slots)
    assert set(slots) <= {each.slot for each in candidates}
    assert all(reason for _, reason in chosen)


@given(candidate_lists(), st.integers(0, 15), st.booleans(), st.randoms(use_true_random=False))
def test_victims_do_not_depend_on_the_order_of_the_candidates(
    candidates: list[Candidate], n: int, least_busy: bool, random: Any
) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)
    expected = choose_victims(candidates, n, least_busy=least_busy)
    assert choose_victims(shuffled, n, least_busy=least_busy) == expected


@given(candidate_lists(), st.integers(0, 15))
def test_nobody_who_serves_goes_while_one_who_does_not_stays(
    candidates: list[Candidate], n: int
) -> None:
    def serves(each: Candidate) -> bool:
        return each.ready and each.healthy and not each.leaving

    gone = {slot for slot, _ in choose_victims(candidates, n)}
    if any(serves(each) for each in candidates if each.slot in gone):
        assert all(serves(each) for each in candidates if each.slot not in gone)


@given(candidate_lists(), st.integers(0, 14), st.booleans())
def test_letting_one_more_go_changes_nothing_for_those_chosen_before(
    candidates: list[Candidate], n: int, least_busy: bool
) -> None:
    fewer = choose_victims(candidates, n, least_busy=least_busy)
    more = choose_victims(candidates, n + 1, least_busy=least_busy)
    assert more[: len(fewer)] == fewer


@given(candidate_lists(), st.integers(0, 15))
def test_no_busier_one_of_a_kind_goes_before_a_less_busy_one(
    candidates: list[Candidate], n: int
) -> None:
    """R2: never a busy member first."""
    by_slot = {each.slot: each for each in candidates}
    chosen = choose_victims(candidates, n, least_busy=True)
    for (before, why), (after, why_after) in pairwise(chosen):
        if why == why_after:
            assert by_slot[before].in_flight <= by_slot[after].in_flight
