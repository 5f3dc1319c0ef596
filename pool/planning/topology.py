"""What a planner may know of a cluster: nodes, what they have, who holds it, and node filters.

Purpose: the frozen picture that the placement planners are given, and the selector by which a
role says which nodes it may use, with a reason for every node that it leaves out.

Limits: a picture, not a view: it does not change, and knows nothing of time. Labels are
matched by Ray's own selector syntax: ``value``, ``!value``, ``in(a,b)``, ``!in(a,b)``.

Why not an environment variable that hides the head, as elsewhere: that needs a label which
nobody sets, and a label that no node has makes a reservation wait for ever. Here a filter is a
value of the role, applied to the plan and to the bundles alike (`NodeSelector.bundle_labels`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pool.errors import ConfigError
from pool.planning.resources import Resources, amount_text, as_name

NODE_ID_LABEL: Final = "ray.io/node-id"
ACCELERATOR_LABEL: Final = "ray.io/accelerator-type"
ACCELERATOR_RESOURCE_PREFIX: Final = "accelerator_type:"

_NAME_MAX: Final = 12
"""A node id up to this long is its own name; Ray's ids, of 56 characters, are shortened."""

_NAMES_SHOWN: Final = 3
"""How many nodes of a group are named in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Describe one node as it was seen.

    Args:
        node_id: Ray's id of the node.
        address: Its IP address, or its host name.
        total: What it has.
        available: What of it is free.
        labels: Its labels.
        is_head: Whether the cluster's head runs on it.
        draining: Whether it takes no new work any more.
        held_by: Who holds how much of it, for the sentences that say what is in use by whom.
    """

    node_id: str
    address: str
    total: Resources
    available: Resources
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_head: bool = False
    draining: bool = False
    held_by: Mapping[str, Resources] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        as_name(self.node_id, "node_id")

    @property
    def name(self) -> str:
        """Return what to call this node in a sentence."""
        if len(self.node_id) <= _NAME_MAX:
            return self.node_id
        return f"{self.address}/{self.node_id[:6]}" if self.address else self.node_id[:_NAME_MAX]

    def label(self, key: str) -> str | None:
        """Return the value of a label, or None; Ray's own label for the node id always exists.

        Args:
            key: The label's name.

        Returns:
            Its value.
        """
        value = self.labels.get(key)
        return self.node_id if value is None and key == NODE_ID_LABEL else value

    @property
    def accelerator_types(self) -> frozenset[str]:
        """Return the accelerator types that Ray says this node has, by label or by resource."""
        found = {
            name.removeprefix(ACCELERATOR_RESOURCE_PREFIX)
            for name in self.total
            if name.startswith(ACCELERATOR_RESOURCE_PREFIX)
        }
        labelled = self.labels.get(ACCELERATOR_LABEL)
        return frozenset(found | {labelled} if labelled else found)


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Hold one condition on a label, parsed from Ray's selector syntax.

    Args:
        values: The values named.
        negated: True if the label must have none of them (a node without it passes).
    """

    values: tuple[str, ...]
    negated: bool

    @classmethod
    def parse(cls, text: str, key: str) -> LabelRule:
        """Read ``value``, ``!value``, ``in(a,b)`` or ``!in(a,b)``.

        Args:
            text: The condition.
            key: The label's name, for the error.

        Returns:
            The rule.

        Raises:
            ConfigError: It names no value.
        """
        text = as_name(text, f"labels[{key!r}]")
        negated = text.startswith("!")
        body = text[1:].strip() if negated else text.strip()
        if body.startswith("in(") and body.endswith(")"):
            values = tuple(value.strip() for value in body[len("in(") : -1].split(","))
        else:
            values = (body,)
        if not all(values):
            raise ConfigError(
                f"label {key!r} is to be {text!r}; give value, !value, in(a,b) or !in(a,b)",
                "labels",
            )
        return cls(values, negated)

    def allows(self, value: str | None) -> bool:
        """Say whether a label with this value (None: without the label) passes.

        Args:
            value: The label's value on a node.

        Returns:
            True if it passes.
        """
        return (value in self.values) != self.negated


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSelector:
    """Say which nodes a role may use.

    Args:
        exclude_head: Leave the head out.
        labels: Label to condition, in Ray's syntax; all must hold.
        accelerator_type: The node must have this accelerator ("H100", "TPU-V6E", ...).
        node_ids: Only these nodes; None for any.
        without: Not these nodes.

    Raises:
        ConfigError: A condition names no value, or `node_ids` is empty.
    """

    exclude_head: bool = False
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    accelerator_type: str | None = None
    node_ids: frozenset[str] | None = None
    without: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        labels: object = self.labels
        if not isinstance(labels, Mapping):
            raise ConfigError(
                f'labels is {labels!r}; give a dict of label to condition, as in {{"zone": "a"}}',
                "labels",
            )
        for key, text in self.labels.items():
            LabelRule.parse(text, key)
        given: object = self.without
        if isinstance(given, str):
            raise ConfigError(f"without is the text {given!r}; give a set of node ids", "without")
        object.__setattr__(self, "without", frozenset(self.without))
        if isinstance(self.node_ids, str):
            raise ConfigError(
                f"node_ids is the text {self.node_ids!r}; give a set of node ids", "node_ids"
            )
        if self.node_ids is not None:
            object.__setattr__(self, "node_ids", frozenset(self.node_ids))
            if not self.node_ids:
                raise ConfigError("node_ids is empty; name nodes, or give None for any", "node_ids")

    @property
    def is_any(self) -> bool:
        """Return whether every node passes."""
        return not (
            self.exclude_head
            or self.labels
            or self.accelerator_type
            or self.node_ids is not None
            or self.without
        )

    def matches(self, node: Node) -> bool:
        """Say whether a node passes.

        Args:
            node: The node.

        Returns:
            True if it passes.
        """
        return self.why_not(node) is None

    def why_not(self, node: Node) -> str | None:
        """Say why a node does not pass, or None if it does.

        Args:
            node: The node.

        Returns:
            The first condition that it fails, in words.
        """
        if self.exclude_head and node.is_head:
            return "it is the head, which is left out"
        if node.node_id in self.without:
            return "it is left out by name"
        if self.node_ids is not None and node.node_id not in self.node_ids:
            return "it is not among the named nodes"
        if self.accelerator_type and self.accelerator_type not in node.accelerator_types:
            seen = ", ".join(sorted(node.accelerator_types)) or "none"
            return f"its accelerator type is not {self.accelerator_type} ({seen})"
        for key, text in self.labels.items():
            value = node.label(key)
            if not LabelRule.parse(text, key).allows(value):
                seen = "it has no such label" if value is None else f"it has {value}"
                return f"its label {key} is not {text} ({seen})"
        return None

    def unknown(self, topology: Topology) -> str | None:
        """Say which condition no node of a topology meets, or None.

        A reservation with such a condition would wait for ever, so it is refused up front.

        Args:
            topology: Every node there is, draining ones included.

        Returns:
            The condition, and what there is instead, in words.
        """
        if self.node_ids is not None:
            missing = self.node_ids - {node.node_id for node in topology.nodes}
            if missing == self.node_ids:
                return f"no node has the id {_some(sorted(missing))}"
        if self.accelerator_type:
            types = {each for node in topology.nodes for each in node.accelerator_types}
            if self.accelerator_type not in types:
                return (
                    f"no node has the accelerator type {self.accelerator_type} "
                    f"(there is {_some(sorted(types)) or 'none'})"
                )
        for key, text in self.labels.items():
            rule = LabelRule.parse(text, key)
            seen = {node.label(key) for node in topology.nodes}
            if not any(rule.allows(value) for value in seen):
                values = sorted(value for value in seen if value is not None)
                there = f"there is {_some(values)}" if values else "no node has such a label"
                return f"no node has the label {key}={text} ({there})"
        return None

    def bundle_labels(self, topology: Topology) -> dict[str, str]:
        """Return the label selector that makes Ray keep to the same nodes.

        Conditions that are labels stay labels, so that nodes which join later count too; the
        rest becomes a condition on Ray's own node id label.

        Args:
            topology: The nodes there are.

        Returns:
            A selector for one bundle, in Ray's syntax; empty if every node passes.
        """
        labels = dict(self.labels)
        ids: list[str] | None = None
        left_out = set(self.without)
        if self.exclude_head:
            left_out |= {node.node_id for node in topology.nodes if node.is_head}
        if self.accelerator_type:
            chosen = [n for n in topology.nodes if self.accelerator_type in n.accelerator_types]
            by_label = all(n.labels.get(ACCELERATOR_LABEL) == self.accelerator_type for n in chosen)
            if by_label and ACCELERATOR_LABEL not in labels:
                labels[ACCELERATOR_LABEL] = self.accelerator_type
            else:
                ids = sorted(node.node_id for node in topology.select(self).nodes)
        if self.node_ids is not None or (left_out and NODE_ID_LABEL in labels):
            ids = sorted(node.node_id for node in topology.select(self).nodes)
        if ids is not None:
            labels[NODE_ID_LABEL] = _one_of(ids)
        elif left_out:
            labels[NODE_ID_LABEL] = "!" + _one_of(sorted(left_out))
        return labels

    def __str__(self) -> str:
        parts = [f"label {key}={text}" for key, text in self.labels.items()]
        if self.accelerator_type:
            parts.append(f"accelerator type {self.accelerator_type}")
        if self.node_ids is not None:
            parts.append(f"node id {_some(sorted(self.node_ids))}")
        if self.exclude_head:
            parts.append("not the head")
        return ", ".join(parts) or "any node"


ANY_NODE: Final = NodeSelector()


@dataclass(frozen=True, slots=True)
class Topology:
    """Hold the nodes of a cluster as they were seen.

    Args:
        nodes: The nodes, each id once.

    Raises:
        ConfigError: Two nodes have one id.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        if len({node.node_id for node in self.nodes}) != len(self.nodes):
            raise ConfigError("two nodes have the same node_id; give each node once", "nodes")

    def select(self, selector: NodeSelector) -> Topology:
        """Return the nodes that a selector lets pass.

        Args:
            selector: The filter.

        Returns:
            The rest of the topology, in the same order.
        """
        if selector.is_any:
            return self
        return Topology(tuple(node for node in self.nodes if selector.matches(node)))

    def without_draining(self) -> Topology:
        """Return the nodes that still take new work.

        Returns:
            The rest of the topology, in the same order.
        """
        if not any(node.draining for node in self.nodes):
            return self
        return Topology(tuple(node for node in self.nodes if not node.draining))

    def taking(self, taken: Iterable[tuple[str, Resources]]) -> Topology:
        """Return the nodes with less that is free.

        Args:
            taken: Node ids, each with what is taken there; a node may be named again.

        Returns:
            The same nodes, in the same order.
        """
        amounts: dict[str, Resources] = {}
        for node_id, amount in taken:
            amounts[node_id] = amounts.get(node_id, Resources()) + amount
        return Topology(
            tuple(
                replace(node, available=node.available.minus_clamped(amounts[node.node_id]))
                if node.node_id in amounts
                else node
                for node in self.nodes
            )
        )

    def describe(self, device: str | None = None) -> str:
        """Return the nodes in a few words, equal ones together.

        Args:
            device: Count only this resource; None for everything a node has, markers left out.

        Returns:
            Such as "6 nodes with 4 GPU (n1..n6), 1 head with 0 GPU (n0)".
        """
        groups: dict[tuple[bool, bool, str], list[str]] = {}
        for node in self.nodes:
            if device is None:
                text = str(Resources({k: v for k, v in node.total.items() if ":" not in k}))
            else:
                text = amount_text(device, node.total.units(device))
            groups.setdefault((node.is_head, node.draining, text), []).append(node.name)
        parts = []
        for (is_head, draining, text), names in groups.items():
            noun = ("head" if is_head else "node") + ("s" if len(names) > 1 else "")
            adjective = "draining " if draining else ""
            parts.append(f"{len(names)} {adjective}{noun} with {text} ({_some(names)})")
        return ", ".join(parts) or "no nodes"


def _some(names: Sequence[str]) -> str:
    """Return a list of names, shortened to its first and last if it is long."""
    if len(names) > _NAMES_SHOWN:
        return f"{names[0]}..{names[-1]}"
    return ", ".join(names)


def _one_of(values: Iterable[str]) -> str:
    listed = tuple(values)
    return listed[0] if len(listed) == 1 else f"in({','.join(listed)})"
