"""Topology: selectors with their reasons, and the text of a cluster."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given

from pool.errors import ConfigError
from pool.planning.resources import Resources
from pool.planning.topology import LabelRule, Node, NodeSelector, Topology
from tests.planning.strategies_placement import LABELLED, WORKERS, gpu_nodes, node, topologies

HEAD = node("n0", is_head=True, labels={"zone": "b"})
WORKER = Node(
    node_id="n1",
    address="10.0.0.1",
    total=Resources({"GPU": 8, "accelerator_type:H100": 1}),
    available=Resources(),
    labels={"zone": "a"},
)
LABELLED_WORKER = node("n2", 4, labels={"zone": "a", "ray.io/accelerator-type": "A100"})
CLUSTER = Topology((HEAD, WORKER, LABELLED_WORKER))


@pytest.mark.parametrize(
    ("selector", "ids"),
    [
        (NodeSelector(), ["n0", "n1", "n2"]),
        (NodeSelector(exclude_head=True), ["n1", "n2"]),
        (NodeSelector(labels={"zone": "a"}), ["n1", "n2"]),
        (NodeSelector(labels={"zone": "!a"}), ["n0"]),
        (NodeSelector(labels={"zone": "in(a, b)"}), ["n0", "n1", "n2"]),
        (NodeSelector(labels={"zone": "!in(a,b)"}), []),
        (NodeSelector(labels={"rack": "!r1"}), ["n0", "n1", "n2"]),
        (NodeSelector(labels={"rack": "r1"}), []),
        (NodeSelector(labels={"ray.io/node-id": "n2"}), ["n2"]),
        (NodeSelector(without=frozenset({"n1"})), ["n0", "n2"]),
        (NodeSelector(without=frozenset({"n1"}), exclude_head=True), ["n2"]),
        (NodeSelector(accelerator_type="H100"), ["n1"]),
        (NodeSelector(accelerator_type="A100"), ["n2"]),
        (NodeSelector(node_ids=frozenset({"n1", "n9"})), ["n1"]),
    ],
)
def test_a_selector_lets_pass_what_it_names(selector: NodeSelector, ids: list[str]) -> None:
    assert [n.node_id for n in CLUSTER.select(selector).nodes] == ids


@given(topologies())
def test_a_selector_gives_a_reason_exactly_for_what_it_leaves_out(topology: Topology) -> None:
    for selector in (LABELLED, WORKERS, NodeSelector(node_ids=frozenset({"n1"}))):
        chosen = topology.select(selector).nodes
        for each in topology.nodes:
            assert (each in chosen) == (selector.why_not(each) is None) == selector.matches(each)


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        (NodeSelector(exclude_head=True), "it is the head, which is left out"),
        (NodeSelector(node_ids=frozenset({"n1"})), "it is not among the named nodes"),
        (NodeSelector(accelerator_type="H100"), "its accelerator type is not H100 (none)"),
        (NodeSelector(labels={"zone": "a"}), "its label zone is not a (it has b)"),
        (NodeSelector(labels={"rack": "r"}), "its label rack is not r (it has no such label)"),
    ],
)
def test_the_reason_names_the_condition_and_what_is_there(selector: NodeSelector, why: str) -> None:
    assert selector.why_not(HEAD) == why


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (NodeSelector(), None),
        (NodeSelector(exclude_head=True), None),
        (NodeSelector(node_ids=frozenset({"n1", "n9"})), None),
        (NodeSelector(node_ids=frozenset({"n9"})), "no node has the id n9"),
        (NodeSelector(accelerator_type="H100"), None),
        (
            NodeSelector(accelerator_type="B200"),
            "no node has the accelerator type B200 (there is A100, H100)",
        ),
        (NodeSelector(labels={"zone": "a"}), None),
        (NodeSelector(labels={"zone": "c"}), "no node has the label zone=c (there is a, b)"),
        (NodeSelector(labels={"r": "1"}), "no node has the label r=1 (no node has such a label)"),
    ],
)
def test_a_condition_that_no_node_meets_is_named(selector: NodeSelector, text: str | None) -> None:
    assert selector.unknown(CLUSTER) == text


@pytest.mark.parametrize(
    ("selector", "labels"),
    [
        (NodeSelector(), {}),
        (NodeSelector(labels={"zone": "a"}), {"zone": "a"}),
        (NodeSelector(exclude_head=True), {"ray.io/node-id": "!n0"}),
        (NodeSelector(node_ids=frozenset({"n0", "n1"})), {"ray.io/node-id": "in(n0,n1)"}),
        (
            NodeSelector(exclude_head=True, node_ids=frozenset({"n0", "n1"})),
            {"ray.io/node-id": "n1"},
        ),
        (
            NodeSelector(exclude_head=True, labels={"ray.io/node-id": "in(n0,n2)"}),
            {"ray.io/node-id": "n2"},
        ),
        (NodeSelector(accelerator_type="A100"), {"ray.io/accelerator-type": "A100"}),
        (NodeSelector(accelerator_type="H100"), {"ray.io/node-id": "n1"}),
    ],
)
def test_the_same_nodes_are_selected_by_labels_that_ray_obeys(
    selector: NodeSelector, labels: dict[str, str]
) -> None:
    assert selector.bundle_labels(CLUSTER) == labels
    by_labels = CLUSTER.select(NodeSelector(labels=labels))
    assert by_labels == CLUSTER.select(selector)


def test_without_a_head_there_is_none_to_exclude() -> None:
    assert WORKERS.bundle_labels(gpu_nodes(4)) == {}


@pytest.mark.parametrize("bad", ["", "!", "in()", "in(a,)", "!in()"])
def test_a_label_condition_without_a_value_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NodeSelector(labels={"zone": bad})
    assert "zone" in str(caught.value)


def test_values_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(ConfigError, match="give a dict of label to condition"):
        NodeSelector(labels=["zone"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="node_ids is empty"):
        NodeSelector(node_ids=frozenset())
    with pytest.raises(ConfigError, match="is the text 'n1'"):
        NodeSelector(node_ids="n1")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give a set of node ids"):
        NodeSelector(without="n1")  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        node("")
    with pytest.raises(ConfigError, match="same node_id"):
        Topology((HEAD, HEAD))
    assert LabelRule.parse("!in(a, b)", "zone") == LabelRule(("a", "b"), negated=True)


def test_a_cluster_is_described_in_groups() -> None:
    nodes = [node(f"n{i}", 4) for i in range(1, 7)]
    topology = Topology((*nodes, HEAD, node("n7", 4, draining=True), node("n8", 8, cpus=0)))
    assert topology.describe("GPU") == (
        "6 nodes with 4 GPU (n1..n6), 1 head with 0 GPU (n0), "
        "1 draining node with 4 GPU (n7), 1 node with 8 GPU (n8)"
    )
    assert Topology((WORKER,)).describe() == "1 node with 8 GPU (n1)"
    assert Topology(()).describe("GPU") == "no nodes"


def test_long_ids_are_shortened() -> None:
    assert node("n1").name == "n1"
    long = Node(node_id="f" * 56, address="10.0.0.1", total=Resources(), available=Resources())
    assert long.name == "10.0.0.1/ffffff"
    bare = Node(node_id="f" * 56, address="", total=Resources(), available=Resources())
    assert bare.name == "f" * 12


def test_draining_nodes_can_be_left_out() -> None:
    draining = node("n1", draining=True)
    assert Topology((HEAD, draining)).without_draining().nodes == (HEAD,)
    assert CLUSTER.without_draining() is CLUSTER


def test_selectors_print_as_conditions() -> None:
    assert str(NodeSelector()) == "any node"
    full = NodeSelector(
        exclude_head=True,
        labels={"zone": "a"},
        accelerator_type="H100",
        node_ids=frozenset({"n1"}),
    )
    assert str(full) == "label zone=a, accelerator type H100, node id n1, not the head"


def test_nodes_and_selectors_hash_and_pickle() -> None:
    for value in (WORKER, LABELLED, CLUSTER):
        again = pickle.loads(pickle.dumps(value))
        assert again == value
        assert hash(again) == hash(value)
