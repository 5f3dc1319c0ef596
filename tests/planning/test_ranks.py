"""Ranks: neighbours get neighbouring ranks, and keep them."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.ranks import Placed, RankPlan, natural_key, plan_ranks


def worker(key: str, replica: int, address: str, device: int | str = 0, node: str = "") -> Placed:
    return Placed(key=key, replica=replica, address=address, node_id=node or address, device=device)


def order(plan: RankPlan) -> list[str]:
    return [rank.worker.key for rank in plan.ranks]


def gang(addresses: list[str], devices: int = 2, replica: int = 0, run: str = "") -> list[Placed]:
    return [
        worker(f"{replica}/{a}/{d}", replica, a, d, f"{run}{a}")
        for a in addresses
        for d in range(devices)
    ]


# --- examples -------------------------------------------------------------------------------------


def test_ranks_follow_replica_then_numeric_address_then_device() -> None:
    placed = [
        worker("e", 1, "10.0.0.9", 0),
        worker("d", 0, "10.0.0.10", 10),
        worker("c", 0, "10.0.0.10", 9),
        worker("b", 0, "10.0.0.9", 2),
        worker("a", 0, "10.0.0.9", 1),
    ]
    plan = plan_ranks(placed)
    assert order(plan) == ["a", "b", "c", "d", "e"]
    assert [r.rank for r in plan.ranks] == [0, 1, 2, 3, 4]
    assert [r.replica_rank for r in plan.ranks] == [0, 1, 2, 3, 0]
    assert [r.node_rank for r in plan.ranks] == [0, 0, 1, 1, 0]
    assert [r.local_rank for r in plan.ranks] == [0, 1, 0, 1, 0]
    assert [r.local_size for r in plan.ranks] == [2, 2, 2, 2, 1]
    assert plan["d"].rank == 3
    with pytest.raises(KeyError):
        plan["z"]


def test_seventeen_bundles_on_three_nodes_are_not_interleaved() -> None:
    nodes = "ABAAAAAACACCCCCCC"
    placed = [
        Placed(key=f"w{i}", replica=0, address=f"10.0.0.{'ABC'.index(n) + 1}", node_id=n, index=i)
        for i, n in enumerate(nodes)
    ]
    plan = plan_ranks(placed)
    assert "".join(rank.worker.node_id for rank in plan.ranks) == "".join(sorted(nodes))


def test_addresses_hosts_and_device_ids_sort_as_a_person_would() -> None:
    values: list[int | str] = [
        0, 2, "10", "9.255.0.1", "10.0.0.9", "10.0.0.10", "::2", "::10", "fe80::1%eth0",
        "GPU-0a", "gpu2", "gpu10", "node-a",
    ]  # fmt: skip
    mixed = values[1::2] + values[::2]
    assert sorted(mixed, key=natural_key) == values
    assert natural_key("[::2]") == natural_key("::2")


def test_the_same_nodes_keep_their_ranks_after_a_restart_that_changed_their_ids() -> None:
    first = plan_ranks(gang(["10.0.0.1", "10.0.0.2", "10.0.0.3"], run="x"))
    again = plan_ranks(gang(["10.0.0.3", "10.0.0.1", "10.0.0.2"], run="y"), first)
    assert order(again) == order(first)
    assert again.reason.endswith("3 nodes kept the place that they had before")


def test_a_node_that_came_for_another_takes_its_place() -> None:
    first = plan_ranks(gang(["10.0.0.2", "10.0.0.3", "10.0.0.4"]))
    # The new node has the lowest address, and would come first without the plan before.
    then = plan_ranks(gang(["10.0.0.1", "10.0.0.2", "10.0.0.4"]), first)
    assert [r.worker.address for r in then.ranks[::2]] == ["10.0.0.2", "10.0.0.1", "10.0.0.4"]
    assert then["0/10.0.0.4/1"].rank == first["0/10.0.0.4/1"].rank


def test_a_gang_that_shrank_closes_the_gap() -> None:
    first = plan_ranks(gang(["10.0.0.1", "10.0.0.2", "10.0.0.3"]))
    then = plan_ranks(gang(["10.0.0.1", "10.0.0.3"]), first)
    assert [r.worker.address for r in then.ranks[::2]] == ["10.0.0.1", "10.0.0.3"]


def test_nodes_that_share_an_address_are_told_apart_by_their_ids() -> None:
    first = plan_ranks([worker(n, 0, "127.0.0.1", node=n) for n in "ab"])
    then = plan_ranks([worker(n, 0, "127.0.0.1", node=n) for n in "bc"], first)
    assert order(then) == ["c", "b"]


def test_two_workers_with_one_key_are_refused() -> None:
    with pytest.raises(ConfigError, match="same key"):
        plan_ranks([worker("a", 0, "10.0.0.1"), worker("a", 1, "10.0.0.1")])


def test_a_node_with_two_addresses_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"10\.0\.0\.1 and 10\.0\.0\.2"):
        plan_ranks([worker("a", 0, "10.0.0.1", node="x"), worker("b", 0, "10.0.0.2", node="x")])


# --- safety ---------------------------------------------------------------------------------------

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.10", "::1", "0::1", "host2", "host10", "127.0.0.1"]

DEVICES: st.SearchStrategy[int | str] = st.one_of(
    st.sampled_from([0, 1, 10]), st.sampled_from(["GPU-a1", ""])
)


@st.composite
def placements(draw: st.DrawFn) -> list[Placed]:
    placed = []
    for i in range(draw(st.integers(0, 12))):
        address = draw(st.sampled_from(ADDRESSES))
        placed.append(
            Placed(
                key=f"w{i}",
                replica=draw(st.integers(0, 2)),
                address=address,
                node_id=address + draw(st.sampled_from("xyz")),
                device=draw(DEVICES),
            )
        )
    return placed


@given(placements(), placements())
def test_ranks_are_dense_and_replicas_and_nodes_stay_together(
    placed: list[Placed], before: list[Placed]
) -> None:
    for plan in (plan_ranks(placed), plan_ranks(placed, plan_ranks(before))):
        assert sorted(order(plan)) == sorted(w.key for w in placed)
        assert [r.rank for r in plan.ranks] == list(range(len(placed)))
        groups = [
            (r.worker.replica, r.node_rank, r.worker.address, r.worker.node_id) for r in plan.ranks
        ]
        runs = [key for key, _ in itertools.groupby(groups)]
        assert len(runs) == len(set(groups))
        assert [r[:2] for r in runs] == sorted({r[:2] for r in runs})
        for _, same in itertools.groupby(plan.ranks, key=lambda r: (r.worker.replica, r.node_rank)):
            members = list(same)
            assert [r.local_rank for r in members] == list(range(len(members)))
            assert {r.local_size for r in members} == {len(members)}


@given(placements(), st.randoms(use_true_random=False), placements())
def test_ranks_depend_on_where_workers_are_not_on_the_order_they_come_in(
    placed: list[Placed], random: Random, before: list[Placed]
) -> None:
    previous = plan_ranks(before)
    shuffled = random.sample(placed, len(placed))
    assert plan_ranks(shuffled) == plan_ranks(placed)
    assert plan_ranks(shuffled, previous) == plan_ranks(placed, previous)


# --- progress -------------------------------------------------------------------------------------


@given(placements(), placements())
def test_planning_again_for_the_same_nodes_changes_no_rank(
    placed: list[Placed], before: list[Placed]
) -> None:
    first = plan_ranks(placed, plan_ranks(before))
    assert plan_ranks(placed, first).ranks == first.ranks


@given(st.sets(st.integers(1, 30), min_size=1), st.sets(st.integers(1, 30), min_size=1))
def test_a_node_that_stays_keeps_its_ranks_while_its_place_exists(
    old: set[int], new: set[int]
) -> None:
    first = plan_ranks(gang([f"10.0.0.{n}" for n in old]))
    then = plan_ranks(gang([f"10.0.0.{n}" for n in new]), first)
    for rank in first.ranks:
        stayed = int(rank.worker.address.split(".")[-1]) in new
        if stayed and rank.node_rank < len(new):
            assert then[rank.worker.key] == rank
