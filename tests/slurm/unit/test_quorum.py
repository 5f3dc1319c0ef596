from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.slurm.quorum import enough, ranks_of

QUORUMS = st.one_of(
    st.just("all"), st.integers(1, 2000), st.integers(1, 100).map(lambda share: f"{share}%")
)


@given(QUORUMS, st.integers(1, 2000))
def test_enough_is_at_least_one_and_at_most_all(quorum: str | int, of: int) -> None:
    assert 1 <= enough(quorum, of) <= of


@pytest.mark.parametrize(
    ("quorum", "of", "count"),
    [("all", 7, 7), (3, 7, 3), (9, 7, 7), ("50%", 7, 4), ("99.5%", 1503, 1496), ("100%", 7, 7)],
)
def test_shares_are_rounded_up(quorum: str | int, of: int, count: int) -> None:
    assert enough(quorum, of) == count


@given(st.one_of(st.sampled_from(["all", "head"]), st.integers(1, 50)), st.integers(1, 40))
def test_a_service_has_nodes_that_are_there(where: str | int, nodes: int) -> None:
    ranks = ranks_of(where, nodes)
    assert len(set(ranks)) == len(ranks) >= 1
    assert set(ranks) <= set(range(nodes))
    if isinstance(where, int):
        assert len(ranks) == min(where, nodes)
        assert (0 in ranks) == (where >= nodes)
