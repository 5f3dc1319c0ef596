"""Which slices there are, which are whole, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from pool.errors import ConfigError
from pool.planning.slices import WORKER_LABEL, Slice, SliceType, describe, find_slices
from pool.planning.topology import Node, NodeSelector, Topology
from tests.planning.strategies_slices import host, whole, worlds

V4_16 = SliceType.parse("v4-16")
V4_32 = SliceType.parse("v4-32")


def the_slice(*nodes: Node, kind: SliceType = V4_16) -> Slice:
    [found] = find_slices(kind, Topology(nodes))
    return found


@pytest.mark.parametrize(
    ("name", "normal", "chips", "hosts"),
    [
        ("v4-16", "v4-16", 8, 2),
        ("v4-8", "v4-8", 4, 1),
        ("v3-32", "v3-32", 16, 4),
        ("v5p-12", "v5p-12", 6, 2),
        ("v6e-8", "v6e-8", 8, 1),
        ("v6e-16", "v6e-16", 16, 4),
        ("v5litepod-4", "v5litepod-4", 4, 1),
        ("TPU-V7X-8", "v7x-8", 4, 1),
        ("tpu7x-16", "v7x-16", 8, 2),
    ],
)
def test_a_type_says_how_large_a_slice_is(name: str, normal: str, chips: int, hosts: int) -> None:
    kind = SliceType.parse(name)
    assert (kind.name, kind.chips, kind.usual_hosts) == (normal, chips, hosts)
    assert kind.head == f"TPU-{normal}-head"


def test_the_number_of_chips_can_be_given() -> None:
    assert SliceType.parse("v7x-16", chips=16).usual_hosts == 4


@pytest.mark.parametrize("name", ["", "v4", "v4-0", "v4-x", "H100", 4, None])
def test_what_is_no_type_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="slice_type is"):
        SliceType.parse(name)  # type: ignore[arg-type]


def test_a_number_of_chips_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="chips"):
        SliceType.parse("v4-16", chips=0)


def test_hosts_are_in_the_order_of_their_workers_and_slices_in_that_of_their_names() -> None:
    nodes = whole("s-10", "s-9", kind="v4-96", hosts=12)
    found = find_slices(SliceType.parse("v4-96"), Topology(tuple(reversed(nodes))))
    assert [each.name for each in found] == ["s-9", "s-10"]
    assert all(each.is_whole for each in found)
    assert found[0].nodes == tuple(f"s-9.{worker}" for worker in range(12))


def test_a_host_that_has_all_chips_needs_no_label_but_its_type() -> None:
    alone = host("x", 0, kind="v6e-8", chips=8)
    bare = replace(alone, labels={"ray.io/tpu-pod-type": "v6e-8"})
    found = the_slice(bare, kind=SliceType.parse("v6e-8"))
    assert found.is_whole
    assert found.name == "x.0"


@pytest.mark.parametrize(
    ("nodes", "trouble"),
    [
        ([host("a", 0)], "worker 1 of 2 is missing"),
        ([host("a", 1)], "worker 0 of 2 is missing"),
        ([host("a", 1), host("a", 2)], "worker 0 of 3 is missing"),
        ([host("a", 0), host("a", "x")], "a.x has no number in its label ray.io/tpu-worker-id"),
        (
            [host("a", 0), replace(host("a", 1), labels=host("a", 0).labels)],
            "several nodes say that they are worker 0",
        ),
        ([host("a", 0), host("a", 1, draining=True)], "worker 1 on a.1 is draining"),
        (whole("a", hosts=3), "its hosts have 4, 4 and 4 TPU, where a v4-16 has 8 in all"),
        ([host("a", 0, chips=4), host("a", 1, chips=2)], "its hosts have 4 and 2 TPU"),
    ],
)
def test_a_slice_that_is_not_whole_says_why(nodes: list[Node], trouble: str) -> None:
    found = the_slice(*nodes)
    assert not found.is_whole
    assert trouble in str(found)


def test_all_hosts_that_are_missing_are_named() -> None:
    found = the_slice(host("a", 1, kind="v4-32"), kind=V4_32)
    assert str(found) == "slice a: workers 0, 2 and 3 of 4 are missing"


def test_a_host_without_a_slice_is_no_slice() -> None:
    node = host("a", 0)
    labels = {key: value for key, value in node.labels.items() if "slice" not in key}
    assert not the_slice(replace(node, labels=labels)).is_whole


def test_a_host_that_may_not_be_used_spoils_its_slice() -> None:
    topology = Topology(tuple(whole("a", "b")))
    selector = NodeSelector(without=frozenset({"a.1"}))
    a, b = find_slices(V4_16, topology, selector)
    assert str(a) == "slice a: worker 1 on a.1 may not be used: it is left out by name"
    assert str(b) == "slice b: whole"


def test_other_types_and_nodes_without_chips_are_nothing() -> None:
    nodes = [*whole("a", kind="v4-32"), replace(host("b", 0), total=host("b", 0, chips=0).total)]
    assert find_slices(V4_16, Topology(tuple(nodes))) == ()


def test_a_cluster_is_described() -> None:
    found = find_slices(V4_16, Topology((*whole("a"), host("b", 1))))
    assert describe(V4_16, found) == (
        "1 of 2 v4-16 slices are whole; slice b: worker 0 of 2 is missing"
    )
    assert "ray.io/tpu-pod-type=v4-16" in describe(V4_16, ())


@given(worlds())
def test_a_whole_slice_has_every_host_of_its_name_in_order(topology: Topology) -> None:
    nodes = {node.node_id: node for node in topology.nodes}
    found = find_slices(V4_32, topology)
    for each in found:
        there = sorted(name for name in nodes if name.startswith(f"{each.name}."))
        assert list(each.nodes) == there
        is_whole = len(there) == 4 and not any(nodes[name].draining for name in there)
        assert each.is_whole == is_whole
        if is_whole:
            assert [host.labels[WORKER_LABEL] for host in each.hosts] == list("0123")
            assert sum(host.total["TPU"] for host in each.hosts) == V4_32.chips
    assert all(f"slice {each.name}: " in describe(V4_32, found) for each in found if each.troubles)
