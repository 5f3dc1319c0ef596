"""Packing: verdicts equal a brute-force oracle's, whole nodes stay free, and it is fast."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning import packing
from pool.planning.packing import Fits, Never, NotFound, NotNow, Request, pack, pack_equal
from pool.planning.resources import Resources
from pool.planning.shape import BundlePlan
from pool.planning.topology import ANY_NODE, Node, NodeSelector, Topology
from tests.planning.strategies_placement import (
    LABELLED,
    WORKERS,
    bundle_plan,
    gpu_nodes,
    node,
    packing_cases,
)


def asks(plan: BundlePlan, n: int, role: str = "rollout") -> list[Request]:
    return [Request(f"role {role}, slot {i}", plan) for i in range(n)]


def sized(*gpus: int) -> list[Request]:
    return [Request(f"r{n}", bundle_plan(GPU=size)) for n, size in enumerate(gpus)]


def check_assignment(
    reqs: Sequence[Request], topology: Topology, assignment: dict[str, tuple[str, ...]]
) -> None:
    """INV-8: what is assigned fits what is free, all requests together."""
    nodes = {n.node_id: n for n in topology.nodes}
    used = dict.fromkeys(nodes, Resources())
    by_key = {request.key: request.plan for request in reqs}
    for key, ids in assignment.items():
        plan = by_key[key]
        assert len(ids) == len(plan.bundles)
        assert len(set(ids)) == (1 if plan.strategy == "STRICT_PACK" else len(ids))
        for bundle, node_id in zip(plan.bundles, ids, strict=True):
            assert plan.selector.matches(nodes[node_id])
            assert not nodes[node_id].draining
            used[node_id] += bundle
    for node_id, held in used.items():
        assert held.fits_in(nodes[node_id].available)
        assert held.fits_in(nodes[node_id].total)


# --- examples: never, not now, fits ---------------------------------------------------------------


def test_nothing_asked_for_fits() -> None:
    assert pack([], gpu_nodes(8)).reason == (
        "0 requests fit on 0 of 1 nodes; the devices of 1 nodes stay whole"
    )
    assert isinstance(pack([], Topology(())), Fits)


def test_places_are_counted_not_only_sums() -> None:
    # Three replicas of 2 devices on 3 + 3: 6 of 6 in sum, but each node has one place.
    result = pack(asks(bundle_plan(GPU=2), 3), gpu_nodes(3, 3))
    assert isinstance(result, Never)
    assert result.reason == (
        "3 bundles need 2 GPU or more each; the nodes have 2 places of that size"
    )
    assert set(result.blocked) == {f"role rollout, slot {i}" for i in range(3)}


def test_bundles_of_one_request_have_one_place_a_node() -> None:
    # A node of 8 has four places for 2 devices, but two gangs can use only two of them.
    gangs = asks(bundle_plan(2, GPU=2), 2)
    assert pack(gangs, gpu_nodes(8, 2)).reason == (
        "4 bundles need 2 GPU or more each; the nodes have 3 places of that size"
    )
    assert isinstance(pack(gangs, gpu_nodes(8, 4)), Fits)


UNEQUAL = BundlePlan((Resources({"GPU": 1}), Resources({"GPU": 2})), "STRICT_SPREAD", ANY_NODE, "")


def test_unequal_bundles_of_one_request_share_no_node_and_keep_their_order() -> None:
    result = pack([Request("a", UNEQUAL)], gpu_nodes(4, 4))
    assert isinstance(result, Fits)
    assert result.assignment == {"a": ("n1", "n0")}
    # 3 + 1 on n1 and 2 on n0 would do, were it not that the 1 must be on another node.
    gang = BundlePlan((Resources({"GPU": 3}), Resources({"GPU": 1})), "STRICT_SPREAD", ANY_NODE, "")
    result = pack([Request("a", gang), *sized(2)], gpu_nodes(2, 4))
    assert isinstance(result, Never)
    assert result.reason.startswith("every way to place them was tried")
    small = Resources({"GPU": 1, "CPU": 3})
    plan = BundlePlan((Resources({"GPU": 2}), small), "STRICT_SPREAD", ANY_NODE, "")
    tight = Topology((node("n0", 3, cpus=3), node("n1", 2, cpus=2)))
    assert isinstance(pack([Request("a", plan)], tight), Fits)


@pytest.mark.parametrize(
    "gang",
    [
        bundle_plan(2, GPU=4),
        BundlePlan(
            (Resources({"GPU": 4}), Resources({"GPU": 3, "CPU": 1})), "STRICT_SPREAD", ANY_NODE, ""
        ),
    ],
)
def test_a_request_that_finds_no_place_leaves_all_places_to_others(gang: BundlePlan) -> None:
    topology = Topology((node("n0", 4), node("n1", 8, free=Resources({"GPU": 1}))))
    result = pack([Request("gang", gang), Request("one", bundle_plan(GPU=2))], topology)
    assert isinstance(result, NotNow)
    assert result.assignment == {"one": ("n0",)}
    assert set(result.blocked) == {"gang"}


def test_what_exceeds_the_sum_is_never() -> None:
    result = pack(asks(bundle_plan(GPU=8, CPU=1), 3), gpu_nodes(8, 8))
    assert isinstance(result, Never)
    assert result.reason == "together they need 24 GPU; the nodes have 16 GPU"


def test_what_exceeds_the_sum_of_its_selected_nodes_is_never() -> None:
    topology = Topology((node("n0", 8, labels={"zone": "a"}), node("n1", 8)))
    both = [*asks(bundle_plan(1, LABELLED, GPU=8), 2), *asks(bundle_plan(GPU=1), 1, "other")]
    result = pack([*both[:2]], topology)
    assert isinstance(result, Never)
    assert result.reason == "together they need 16 GPU; the nodes with label zone=a have 8 GPU"
    mixed = pack([*both[:1], Request("x", bundle_plan(1, LABELLED, GPU=1)), both[2]], topology)
    assert isinstance(mixed, Never)
    assert set(mixed.blocked) == {"role rollout, slot 0", "x"}


ZONE = NodeSelector(labels={"zone": "a"})
EQUAL = [
    BundlePlan((Resources({"GPU": 1}),), "STRICT_PACK", ANY_NODE, ""),
    BundlePlan(
        (Resources({"GPU": 2}), Resources({"GPU": 1, "CPU": 1})), "STRICT_SPREAD", ANY_NODE, ""
    ),
    BundlePlan((Resources({"GPU": 1}),), "STRICT_PACK", ZONE, ""),
]


def full_node(number: int) -> Node:
    return node(f"n{number}", 4, cpus=8, labels={"zone": "ab"[number % 2]})


@pytest.mark.parametrize("plan", EQUAL)
@pytest.mark.parametrize("count", [1, 4, packing.NAMED, packing.NAMED + 1])
def test_equal_requests_are_told_what_as_many_single_ones_are(plan: BundlePlan, count: int) -> None:
    topology = Topology(tuple(map(full_node, range(4))))
    whole = pack([Request(f"replica {number}", plan) for number in range(count)], topology)
    found = pack_equal("replica {}".format, plan, count, topology)
    assert type(found) is type(whole)
    assert found.reason == whole.reason
    if count <= packing.NAMED:
        assert found == whole
    else:
        assert isinstance(found, Never)
        assert len(found.blocked) == packing.NAMED


def test_more_than_are_named_are_placed_all_the_same_where_they_fit() -> None:
    plan = BundlePlan((Resources({"CPU": 0.001}),), "STRICT_PACK", ANY_NODE, "")
    count = packing.NAMED + 1
    topology = Topology((full_node(0),))
    found = pack_equal("replica {}".format, plan, count, topology)
    assert isinstance(found, Fits)
    assert len(found.assignment) == count


@pytest.mark.parametrize("plan", EQUAL)
def test_a_number_that_nobody_could_count_to_is_refused_by_sums(plan: BundlePlan) -> None:
    found = pack_equal(str, plan, 2**60, Topology((full_node(0),)))
    assert isinstance(found, Never)
    assert "together they need" in found.reason


def test_what_does_not_fit_alone_is_never_and_named() -> None:
    big = Request("role rollout, slot 3", bundle_plan(2, GPU=8))
    result = pack([big, *asks(bundle_plan(GPU=1), 1)], gpu_nodes(8, 6))
    assert isinstance(result, Never)
    assert result.blocked == {
        "role rollout, slot 3": (
            "role rollout, slot 3: needs 2 nodes with 8 GPU each; 1 of 2 nodes can hold that"
        )
    }
    result = pack([Request("a", bundle_plan(1, WORKERS, GPU=8))], gpu_nodes(6, 7))
    assert isinstance(result, Never)
    assert result.reason == (
        "a: needs 1 node with 8 GPU on nodes with not the head; none of 2 nodes can hold that, "
        "the closest is short of 1 GPU"
    )
    result = pack([Request("a", UNEQUAL)], gpu_nodes(1, 1))
    assert result.reason == (
        "a: needs 2 nodes (1 with 1 GPU; 1 with 2 GPU); none of 2 nodes can hold 2 GPU, "
        "the closest is short of 1 GPU"
    )
    assert "none of 0 nodes" in pack([big], Topology(())).reason


def test_unequal_bundles_that_compete_for_one_node_are_never() -> None:
    two, one = Resources({"GPU": 2, "CPU": 1}), Resources({"GPU": 1, "CPU": 2})
    plan = BundlePlan((two, one), "STRICT_SPREAD", ANY_NODE, "")
    topology = Topology((node("n0", 2, cpus=2), node("n1", 0, cpus=64)))
    result = pack([Request("a", plan)], topology)
    assert isinstance(result, Never)
    assert "1 of 2 nodes can hold 2 GPU, 1 CPU" in result.reason


def test_what_is_in_use_is_not_now_and_says_by_whom() -> None:
    topology = Topology(
        (
            node(
                "A",
                8,
                free=Resources.of(devices=6, cpus=64),
                held_by={"train": Resources.of(devices=2), "log": Resources.of(cpus=1)},
            ),
            node("B", 8),
            node("C", 4),
        )
    )
    result = pack([Request("role rollout, slot 3", bundle_plan(2, GPU=8))], topology)
    assert isinstance(result, NotNow)
    assert result.proven
    assert result.blocked["role rollout, slot 3"] == (
        "role rollout, slot 3: needs 2 nodes with 8 GPU each; 1 of 3 nodes can hold 8 GPU; "
        "node A has 6 GPU free (train holds 2 GPU); no other node has 8 GPU"
    )
    assert result.reason.startswith(
        "they would fit, but not what is free now: role rollout, slot 3"
    )


def test_use_that_nobody_is_known_for_is_said_to_be_in_use() -> None:
    busy = node("A", 8, free=Resources.of(devices=3, cpus=64))
    result = pack([Request("a", bundle_plan(1, WORKERS, GPU=4))], Topology((busy,)))
    assert isinstance(result, NotNow)
    assert result.reason.endswith(
        "node A has 3 GPU free (5 GPU in use); no other node with not the head has 4 GPU"
    )


def test_what_others_of_the_same_plan_take_is_said_too() -> None:
    free = Resources.of(devices=6, cpus=64)
    held = {f"run{i}": Resources.of(devices=0.5, cpus=0) for i in range(4)}
    topology = Topology(tuple(node(n, 8, free=free, held_by=held) for n in "ABCDE"))
    result = pack([*asks(bundle_plan(GPU=4), 5, "a"), *asks(bundle_plan(GPU=3), 5, "b")], topology)
    assert isinstance(result, NotNow)
    assert set(result.assignment) == {f"role a, slot {i}" for i in range(5)}
    assert (
        "node A has 2 GPU free (run0 holds 0.5 GPU; run1 holds 0.5 GPU; run2 holds 0.5 GPU; 2 more)"
        in (result.reason)
    )
    assert "2 more nodes are short too (role a, slot 3, role a, slot 4, run0, 3 more)" in (
        result.reason
    )
    assert result.reason.endswith("And 2 more")


def test_of_nodes_that_are_not_listed_it_is_said_who_is_on_them() -> None:
    held = {"pool train": Resources.of(devices=8)}
    nodes = tuple(node(n, 8, free=Resources.of(cpus=64), held_by=held) for n in "ABCDE")
    result = pack([Request("a", bundle_plan(GPU=4))], Topology(nodes))
    assert isinstance(result, NotNow)
    assert result.reason.endswith("2 more nodes are short too (pool train)")


def test_by_totals_the_nodes_that_are_not_listed_are_said_to_be_taken_by_others_of_the_plan() -> (
    None
):
    plans = [*[bundle_plan(GPU=5)] * 5, bundle_plan(2, GPU=4)]
    nodes = Topology(tuple(node(f"n{i}", 8) for i in range(5)))
    result = pack([Request(f"r{i}", plan) for i, plan in enumerate(plans)], nodes)
    assert isinstance(result, Never)
    assert result.reason.endswith("2 more nodes are short too (r3, r4)")


def test_draining_nodes_are_not_used_and_their_free_resources_do_not_count() -> None:
    topology = Topology((node("n0", 8, draining=True), node("n1", 4)))
    assert isinstance(pack(asks(bundle_plan(GPU=8), 1), topology), Never)
    assert pack(asks(bundle_plan(GPU=4), 1), topology) == Fits(
        {"role rollout, slot 0": ("n1",)},
        "1 requests fit on 1 of 1 nodes; the devices of 0 nodes stay whole",
    )


def test_more_free_than_there_is_does_not_fit() -> None:
    odd = node("n0", 4, free=Resources.of(devices=8, cpus=64))
    assert isinstance(pack(asks(bundle_plan(GPU=8), 1), Topology((odd,))), Never)


def test_a_packed_plan_of_several_bundles_is_on_one_node() -> None:
    plan = BundlePlan((Resources({"GPU": 2}),) * 3, "STRICT_PACK", ANY_NODE, "")
    result = pack([Request("a", plan)], gpu_nodes(4, 8))
    assert isinstance(result, Fits)
    assert result.assignment == {"a": ("n1", "n1", "n1")}


def test_what_must_go_to_few_nodes_goes_before_what_can_go_anywhere() -> None:
    topology = Topology((node("n0", 8, labels={"zone": "a"}), node("n1", 8)))
    anywhere = Request("any", bundle_plan(GPU=8))
    only_a = Request("a", bundle_plan(1, LABELLED, GPU=4))
    result = pack([anywhere, only_a], topology)
    assert isinstance(result, Fits)
    assert result.assignment == {"any": ("n1",), "a": ("n0",)}


def test_the_most_constrained_goes_first_if_the_largest_first_fails() -> None:
    selectors = [NodeSelector(node_ids=frozenset({f"n{i}"})) for i in range(40)]
    # Each node has 4: a 3 that may go to any of two, and a 2 that may go to the second alone.
    pairs = []
    for i in range(0, 40, 2):
        either = NodeSelector(node_ids=frozenset({f"n{i}", f"n{i + 1}"}))
        pairs.append(Request(f"either {i}", bundle_plan(1, either, GPU=3)))
        pairs.append(Request(f"one {i}", bundle_plan(1, selectors[i], GPU=2)))
    topology = Topology(tuple(node(f"n{i}", 4 if i % 2 == 0 else 5) for i in range(40)))
    result = pack(pairs, topology)
    assert isinstance(result, Fits)
    check_assignment(pairs, topology, dict(result.assignment))


def test_two_requests_with_one_key_are_refused() -> None:
    one = Request("a", bundle_plan(GPU=1))
    with pytest.raises(ConfigError, match="same key"):
        pack([one, one], gpu_nodes(8))


# --- whole nodes stay free ------------------------------------------------------------------------


def whole_nodes(topology: Topology, result: packing.Packing) -> int:
    assert isinstance(result, Fits)
    used = {n for ids in result.assignment.values() for n in ids}
    return sum(n.node_id not in used and n.total.units("GPU") > 0 for n in topology.nodes)


def test_six_groups_of_two_leave_a_node_of_eight_whole() -> None:
    topology = gpu_nodes(8, 8, 8)
    result = pack(asks(bundle_plan(GPU=2), 6), topology)
    assert whole_nodes(topology, result) == 1


def test_a_node_in_use_is_preferred_to_a_whole_one_even_if_that_is_tighter() -> None:
    in_use = node("n1", 8, free=Resources.of(devices=6, cpus=64))
    result = pack(asks(bundle_plan(GPU=2), 2), Topology((node("n0", 4), in_use)))
    assert isinstance(result, Fits)
    assert set(result.assignment.values()) == {("n1",)}
    # The same if it is this plan that puts it in use: 5 + 1 on n1, not 1 on the tighter n0.
    result = pack(sized(5, 1), gpu_nodes(2, 8))
    assert whole_nodes(gpu_nodes(2, 8), result) == 1


def test_work_without_devices_goes_to_nodes_without_devices() -> None:
    topology = Topology((node("n0", 8), node("n1", cpus=2), node("n2", cpus=8)))
    result = pack(asks(bundle_plan(CPU=1), 9), topology)
    assert whole_nodes(topology, result) == 1


def test_a_custom_device_makes_a_node_worth_keeping_too() -> None:
    chips = Resources({"chip": 4, "CPU": 8})
    nodes = (
        Node(node_id="n0", address="", total=chips, available=chips),
        Node(node_id="n1", address="", total=chips, available=chips),
    )
    result = pack(
        [*asks(bundle_plan(chip=2), 1), *asks(bundle_plan(CPU=1), 1, "cpu")], Topology(nodes)
    )
    assert isinstance(result, Fits)
    assert len(set(result.assignment.values())) == 1


@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 9), st.integers(0, 5))
def test_equal_requests_on_equal_nodes_touch_as_few_nodes_as_can_be(
    size: int, count: int, per_node: int, spare: int
) -> None:
    assume(size <= per_node)
    needed = -(-count // (per_node // size))
    topology = gpu_nodes(*[per_node] * (needed + spare))
    result = pack(asks(bundle_plan(GPU=size), count), topology)
    assert whole_nodes(topology, result) == spare


# --- safety ---------------------------------------------------------------------------------------


def possible(reqs: Sequence[Request], topology: Topology, *, by_total: bool) -> bool:
    """The oracle: try every node for every bundle, with none of the planner's code."""
    nodes = [n for n in topology.nodes if not n.draining]
    free = [
        (n.total if by_total else n.total.minus_clamped(n.total.minus_clamped(n.available)))
        for n in nodes
    ]

    def place(i: int) -> bool:
        if i == len(reqs):
            return True
        plan = reqs[i].plan
        allowed = [k for k, n in enumerate(nodes) if plan.selector.matches(n)]
        if plan.strategy == "STRICT_PACK":
            ways = [(k,) * len(plan.bundles) for k in allowed]
        else:
            ways = list(itertools.permutations(allowed, len(plan.bundles)))
        for way in ways:
            before = list(free)
            for k, bundle in zip(way, plan.bundles, strict=True):
                if not bundle.fits_in(free[k]):
                    break
                free[k] -= bundle
            else:
                if place(i + 1):
                    return True
            free[:] = before
        return False

    return place(0)


@given(packing_cases)
def test_small_verdicts_equal_those_of_trying_everything(
    case: tuple[list[Request], Topology],
) -> None:
    reqs, topology = case
    result = pack(reqs, topology)
    if possible(reqs, topology, by_total=False):
        assert isinstance(result, Fits)
        assert set(result.assignment) == {r.key for r in reqs}
    elif possible(reqs, topology, by_total=True):
        assert isinstance(result, NotNow)
        assert result.proven
    else:
        assert isinstance(result, Never)
    assert result.reason


@given(packing_cases)
def test_what_is_assigned_fits_all_requests_together_inv_8(
    case: tuple[list[Request], Topology],
) -> None:
    reqs, topology = case
    result = pack(reqs, topology)
    if isinstance(result, (Fits, NotNow)):
        check_assignment(reqs, topology, dict(result.assignment))
    if not isinstance(result, Fits):
        assert result.blocked
        assert set(result.blocked) <= {r.key for r in reqs}
        assert all(result.blocked.values())
    if isinstance(result, NotNow):
        assert set(result.blocked) | set(result.assignment) == {r.key for r in reqs}


# 5 + 5 is what largest first starts with; only 5 + 3 + 2 and 4 + 4 + 2 fill 10 and 10.
HIDDEN = sized(5, 4, 4, 3, 2, 2)
# No sum of these is 9, though 18 of 18 are asked for, and every size has places enough.
IMPOSSIBLE = sized(4, 4, 4, 3, 3)


def half_free(*free: int) -> Topology:
    return Topology(
        tuple(node(f"n{i}", 20, free=Resources.of(devices=n, cpus=64)) for i, n in enumerate(free))
    )


def test_a_packing_that_largest_first_misses_is_found_in_a_small_case() -> None:
    result = pack(HIDDEN, gpu_nodes(10, 10))
    assert isinstance(result, Fits)
    check_assignment(HIDDEN, gpu_nodes(10, 10), dict(result.assignment))


def test_a_small_case_without_a_packing_is_never_after_every_way_was_tried() -> None:
    result = pack(IMPOSSIBLE, gpu_nodes(9, 9))
    assert isinstance(result, Never)
    assert result.reason.startswith("every way to place them was tried")
    later = pack(IMPOSSIBLE, half_free(9, 9))
    assert isinstance(later, NotNow)
    assert later.proven


def test_what_is_in_use_is_not_now_even_if_only_the_search_finds_it_by_totals() -> None:
    nodes = gpu_nodes(10, 10).nodes
    busy = Resources.of(devices=1, cpus=64)
    topology = Topology(tuple(node(n.node_id, 10, free=busy) for n in nodes))
    result = pack(HIDDEN, topology)
    assert isinstance(result, NotNow)
    assert result.proven


@pytest.mark.parametrize("bound", ["EXACT_BUNDLES", "EXACT_NODES", "EXACT_STEPS"])
def test_beyond_its_bounds_it_says_that_it_did_not_find_not_that_there_is_none(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, bound, 1)
    for reqs in (HIDDEN, IMPOSSIBLE):
        size = sum(r.plan.total.units("GPU") for r in reqs) // 20_000
        never = pack(reqs, gpu_nodes(size, size))
        assert isinstance(never, NotFound)
        assert "no packing was found, even on empty nodes, which is no proof" in never.reason
        now = pack(reqs, half_free(size, size))
        assert isinstance(now, NotNow)
        assert not now.proven
        assert "no packing into what is free now was found, which is no proof" in now.reason


def test_many_kinds_are_refused_without_a_sentence_for_every_node() -> None:
    reqs = [Request(f"r{i}", bundle_plan(GPU=8, CPU=1 + i)) for i in range(20)]
    result = pack(reqs, Topology(tuple(node(f"n{i}", 8, free=Resources()) for i in range(20))))
    assert isinstance(result, NotNow)
    assert len(result.blocked) == 20
    assert sum("more nodes are short too" in text for text in result.blocked.values()) < 20


# --- progress -------------------------------------------------------------------------------------


@pytest.mark.parametrize("free_share", [1.0, 0.5])
def test_two_thousand_replicas_find_their_places_on_five_thousand_nodes(free_share: float) -> None:
    total = Resources.of(devices=8, cpus=64)
    nodes = tuple(
        Node(
            node_id=f"n{i}",
            address="",
            total=total,
            available=total if i % 2 else total.scaled(free_share),
        )
        for i in range(5_000)
    )
    plans = [
        bundle_plan(GPU=1, CPU=4),
        bundle_plan(GPU=4, CPU=16),
        bundle_plan(2, GPU=8, CPU=32),
        bundle_plan(CPU=4),
    ]
    reqs = [Request(f"r{i}", plans[i % 4]) for i in range(2_000)]
    assert isinstance(pack(reqs, Topology(nodes)), Fits)
