"""TPU slices: which there are, which are whole, and what is the matter with the others.

A slice is one machine in several parts: its hosts work together or not at all, in an order that its
wiring gives. So a slice is taken whole, with all chips of each host, in the order of its workers,
or not at all. Who belongs to which slice is what Ray writes on the nodes.

Limits: a slice is whole when its hosts have equal parts of the chips of its type, together all of
them, and count their workers from 0 without gaps. Part of a slice is not given out.

Why not reserve the resource `TPU-<type>-head` and look up whose it is, as Ray's own slice groups
do: that takes two groups and a worker process, and says nothing of a slice with a host missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pool.errors import ConfigError
from pool.planning.ranks import natural_key
from pool.planning.resources import as_whole
from pool.planning.topology import ANY_NODE, Node, NodeSelector, Topology

TPU: Final = "TPU"
SLICE_LABEL: Final = "ray.io/tpu-slice-name"
WORKER_LABEL: Final = "ray.io/tpu-worker-id"
TYPE_LABEL: Final = "ray.io/tpu-pod-type"

_TYPE = re.compile(r"(v\d+[a-z]*)-([1-9]\d*)")
_ONE_CORE: Final = ("v5e", "v5litepod", "v6e")
"""Generations whose types are named after their chips."""

CHIPS_PER_HOST: Final = 4
_CHIPS_OF_A_LONE_HOST: Final = 8


@dataclass(frozen=True, slots=True)
class SliceType:
    """Name a type of slice, and say how large it is.

    Args:
        name: Its name as in Ray's label `ray.io/tpu-pod-type`, such as "v4-16".
        chips: How many `TPU` all its hosts have together.
    """

    name: str
    chips: int

    @classmethod
    def parse(cls, name: str, chips: int | None = None) -> SliceType:
        """Read the name of a type.

        Args:
            name: Such as "v4-16", "v6e-8" or "TPU-V7X-8".
            chips: How many `TPU` all hosts of a slice have together, where that does not follow
                from the name, as where nodes count two devices a chip.

        Raises:
            ConfigError: It is no such name, or no whole number of 1 or more.
        """
        given: object = name
        if not (isinstance(given, str) and (found := _TYPE.fullmatch(_normal(given)))):
            raise ConfigError(
                f"slice_type is {given!r}; give a type of TPU slice, such as 'v4-16' or 'v6e-8'",
                "slice_type",
            )
        if chips is None:
            # Most types are named after their cores, of which a chip has two.
            cores = int(found[2])
            chips = cores if found[1] in _ONE_CORE else math.ceil(cores / 2)
        return cls(found[0], as_whole(chips, "chips", at_least=1))

    @property
    def head(self) -> str:
        """The resource that worker 0 of such a slice has 1 of."""
        return f"TPU-{self.name}-head"

    @property
    def usual_hosts(self) -> int:
        """How many hosts such a slice has where nothing is known of them."""
        if self.name.startswith(_ONE_CORE) and self.chips <= _CHIPS_OF_A_LONE_HOST:
            return 1
        return math.ceil(self.chips / CHIPS_PER_HOST)


@dataclass(frozen=True, slots=True)
class Slice:
    """Hold one slice as it was seen.

    Args:
        name: Its name.
        hosts: Its hosts that were seen, in the order of their workers.
        troubles: Why it cannot be used, each in a few words; empty for one that is whole.
    """

    name: str
    hosts: tuple[Node, ...]
    troubles: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all its hosts are there, and may be used."""
        return not self.troubles

    @property
    def nodes(self) -> tuple[str, ...]:
        """The ids of its hosts' nodes, in the order of their workers."""
        return tuple(host.node_id for host in self.hosts)

    def __str__(self) -> str:
        return f"slice {self.name}: {', '.join(self.troubles) or 'whole'}"


def find_slices(
    kind: SliceType, topology: Topology, selector: NodeSelector = ANY_NODE
) -> tuple[Slice, ...]:
    """Return the slices of a type, whole or not, by name.

    Args:
        kind: The type.
        topology: Every node there is, draining ones included.
        selector: The nodes that may be used; a slice with another one is not whole.
    """
    found: dict[str, list[Node]] = {}
    for node in topology.nodes:
        if node.total.get(TPU, 0) and _normal(node.labels.get(TYPE_LABEL, "")) == kind.name:
            found.setdefault(_slice_of(node, kind), []).append(node)
    return tuple(
        _slice(name, found[name], kind, selector) for name in sorted(found, key=natural_key)
    )


def describe(kind: SliceType, slices: Iterable[Slice]) -> str:
    """Say which of the slices are whole, and what is the matter with each that is not."""
    listed = tuple(slices)
    if not listed:
        return f"there is no node with the label {TYPE_LABEL}={kind.name} and a {TPU}"
    whole = [each.name for each in listed if each.is_whole]
    parts = [f"{len(whole)} of {len(listed)} {kind.name} slices are whole"]
    return "; ".join([*parts, *(str(each) for each in listed if not each.is_whole)])


def _slice_of(node: Node, kind: SliceType) -> str:
    """Return the name of a node's slice; a node that has all of its chips needs no label."""
    is_alone = node.total.get(TPU, 0) >= kind.chips
    return node.labels.get(SLICE_LABEL) or (node.node_id if is_alone else "without a name")


def _slice(name: str, nodes: Sequence[Node], kind: SliceType, selector: NodeSelector) -> Slice:
    is_alone = len(nodes) == 1 and nodes[0].total.get(TPU, 0) >= kind.chips
    numbered = [(0 if is_alone else _worker(node), node) for node in nodes]
    numbered.sort(key=lambda pair: (pair[0], pair[1].node_id))
    troubles = [
        *_of_the_count([number for number, _ in numbered], [node for _, node in numbered], kind),
        *(
            f"worker {number} on {node.name} {why}"
            for number, node in numbered
            if (why := _why_not(node, selector))
        ),
    ]
    return Slice(name, tuple(node for _, node in numbered), tuple(troubles))


def _of_the_count(workers: Sequence[int], nodes: Sequence[Node], kind: SliceType) -> list[str]:
    """Say what is wrong with how many hosts and chips there are."""
    unnamed = [node.name for number, node in zip(workers, nodes, strict=True) if number < 0]
    if unnamed:
        return [f"{', '.join(unnamed)} has no number in its label {WORKER_LABEL}"]
    twice = sorted({number for number in workers if workers.count(number) > 1})
    if twice:
        return [f"several nodes say that they are worker {_and(twice)}"]
    each = [node.total.get(TPU, 0) for node in nodes]
    # How many hosts a slice has follows from the chips of those that are there.
    hosts = max(math.ceil(kind.chips / max(each)), max(workers) + 1)
    missing = [number for number in range(hosts) if number not in workers]
    if missing:
        noun = "worker" if len(missing) == 1 else "workers"
        verb = "is" if len(missing) == 1 else "are"
        return [f"{noun} {_and(missing)} of {hosts} {verb} missing"]
    if any(chips * hosts != kind.chips for chips in each):
        seen = _and([f"{chips:g}" for chips in each])
        return [f"its hosts have {seen} {TPU}, where a {kind.name} has {kind.chips} in all"]
    return []


def _why_not(node: Node, selector: NodeSelector) -> str:
    if node.draining:
        return "is draining"
    why = selector.why_not(node)
    return f"may not be used: {why}" if why else ""


def _worker(node: Node) -> int:
    text = node.labels.get(WORKER_LABEL, "")
    return int(text) if text.isdecimal() else -1


def _normal(name: str) -> str:
    """Write a type as Ray does: "TPU-V7X-8" and "tpu7x-8" are "v7x-8"."""
    return re.sub(r"^tpu-?v?", "v", name.strip().lower())


def _and(listed: Iterable[object]) -> str:
    *first, last = map(str, listed)
    return f"{', '.join(first)} and {last}" if first else last
