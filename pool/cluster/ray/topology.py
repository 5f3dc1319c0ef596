"""Ray's nodes as planners see them: totals, what is free, and whose the rest is."""

from __future__ import annotations

from collections.abc import Mapping

from pool.cluster.ray import private
from pool.cluster.ray.private import GroupRecord
from pool.planning.resources import Resources
from pool.planning.topology import Node, Topology

_HEAD = "node:__internal_head__"


def ray_topology() -> Topology:
    """Return the nodes of the cluster that are alive."""
    draining = private.draining_nodes()
    free = private.available_resources_per_node()
    holders = _holders()
    nodes = []
    for record in private.nodes():
        if not record["Alive"]:
            continue
        node_id = record["NodeID"]
        total = record["Resources"]
        held = sum(holders.get(node_id, {}).values(), Resources())
        nodes.append(
            Node(
                node_id=node_id,
                address=record["NodeManagerAddress"],
                total=_schedulable(total),
                # What nodes say of themselves comes late; the table of groups does not.
                available=_least(
                    _schedulable(free.get(node_id, {})), _schedulable(total).minus_clamped(held)
                ),
                labels=dict(record.get("Labels", {})),
                is_head=_HEAD in total,
                draining=node_id in draining,
                held_by=holders.get(node_id, {}),
            )
        )
    return Topology(tuple(nodes))


def _least(one: Resources, other: Resources) -> Resources:
    return Resources.from_units({name: min(one.units(name), other.units(name)) for name in one})


def _schedulable(amounts: Mapping[str, float]) -> Resources:
    """Leave out what Ray keeps for itself: node markers, the object store, group copies."""
    return Resources(
        {
            name: amount
            for name, amount in amounts.items()
            if not name.startswith("node:")
            and "_group_" not in name
            and name not in ("object_store_memory", "bundle")
        }
    )


def _holders() -> Mapping[str, Mapping[str, Resources]]:
    """Say for each node what every placement group holds there, under its pool's or own name."""
    holders: dict[str, dict[str, Resources]] = {}
    for group in private.placement_groups():
        if group.state == "REMOVED":
            continue
        name = _holder_name(group)
        for node_id, bundle in zip(group.nodes, group.bundles, strict=True):
            if node_id:
                on_node = holders.setdefault(node_id, {})
                held = Resources(bundle)
                on_node[name] = on_node[name] + held if name in on_node else held
    return holders


def _holder_name(group: GroupRecord) -> str:
    if group.name.startswith("pool:"):
        return f"pool {group.name.split(':')[1]}"
    return group.name or f"placement group {group.group_id[:8]}"
