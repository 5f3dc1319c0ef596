"""Slices of TPUs as nodes, whole and otherwise."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from pool.planning.resources import Resources
from pool.planning.slices import SLICE_LABEL, TYPE_LABEL, WORKER_LABEL
from pool.planning.topology import Node, Topology


def host(
    slice_name: str,
    worker: int | str,
    *,
    kind: str = "v4-16",
    chips: float = 4,
    free: float | None = None,
    draining: bool = False,
) -> Node:
    """Make one host of a slice, named after both; all of it is free unless told."""
    head = {f"TPU-{kind}-head": 1.0} if worker == 0 else {}
    total = Resources({"CPU": 8, "TPU": chips, **head})
    available = total if free is None else Resources({"CPU": 8, "TPU": free})
    return Node(
        node_id=f"{slice_name}.{worker}",
        address="10.0.0.1",
        total=total,
        available=available,
        labels={SLICE_LABEL: slice_name, WORKER_LABEL: str(worker), TYPE_LABEL: kind},
        draining=draining,
    )


def whole(*names: str, hosts: int = 2, **options: object) -> list[Node]:
    """Make all hosts of some slices."""
    return [host(name, worker, **options) for name in names for worker in range(hosts)]  # type: ignore[arg-type]


@st.composite
def worlds(draw: st.DrawFn) -> Topology:
    """Draw some slices of four hosts, with hosts that are missing, drain, or are in use."""
    nodes: list[Node] = [replace(node, labels={}) for node in whole("other", hosts=2)]
    for name in draw(st.lists(st.sampled_from("abcde"), unique=True)):
        for node in whole(name, hosts=4, kind="v4-32"):
            fate = draw(st.sampled_from(["", "", "", "", "", "gone", "draining", "busy"]))
            if fate == "busy":
                nodes.append(replace(node, available=Resources({"CPU": 8, "TPU": 1})))
            elif fate != "gone":
                nodes.append(replace(node, draining=fate == "draining"))
    return Topology(tuple(draw(st.permutations(nodes))))
