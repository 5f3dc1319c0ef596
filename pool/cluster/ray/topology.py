"""The nodes, and what is free on each of them now.

Nodes tell what they have free a moment after it changed: late when a group has come, and late when
one has gone. Ray's table of groups is right at once. So what groups hold is taken from the table,
and the nodes' own word counts only for what is held beside groups: by actors and tasks of others.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence

from pool.cluster.ray import private
from pool.cluster.ray.private import GroupRecord
from pool.planning.resources import Resources
from pool.planning.topology import Node, Topology

SHOWN_S = 5.0
"""How long after a group was removed its nodes may still tell of it."""

_HEAD = "node:__internal_head__"
_NOTHING = Resources()

_Held = dict[str, dict[str, Resources]]
"""What each group holds on each node, by node and by the name of who has it."""


class Groups:
    """Keep track of which groups have lately been removed.

    Ray's table names removed groups, but not since when; so each counts from when it was first
    seen removed. Those that the first look finds are taken for old.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._removed_at: dict[str, float] | None = None

    def look(self, groups: Sequence[GroupRecord], now: float) -> tuple[_Held, _Held]:
        """Return what groups hold, and what those held that were lately removed.

        Args:
            groups: Ray's table of groups.
            now: Seconds on a clock that never goes back.
        """
        removed = [group.group_id for group in groups if group.state == "REMOVED"]
        with self._lock:
            first = -math.inf if self._removed_at is None else now
            known = self._removed_at or {}
            at = self._removed_at = {name: known.get(name, first) for name in removed}
        held: _Held = {}
        lately: _Held = {}
        for group in groups:
            if group.group_id not in at:
                _count(group, held)
            elif now - at[group.group_id] <= SHOWN_S:
                _count(group, lately)
        return held, lately


_groups = Groups()


def ray_topology() -> Topology:
    """Return the live nodes of the cluster that this process is connected to."""
    draining = private.draining_nodes()
    free = private.available_resources_per_node()
    held, lately = _groups.look(private.placement_groups(), time.monotonic())
    nodes = []
    for record in private.nodes():
        if not record["Alive"]:
            continue
        node_id = record["NodeID"]
        total = _schedulable(record["Resources"])
        holders = held.get(node_id, {})
        nodes.append(
            Node(
                node_id=node_id,
                address=record["NodeManagerAddress"],
                total=total,
                available=_available(
                    total,
                    _schedulable(free.get(node_id, {})),
                    sum(holders.values(), _NOTHING),
                    sum(lately.get(node_id, {}).values(), _NOTHING),
                ),
                labels=dict(record.get("Labels", {})),
                is_head=_HEAD in record["Resources"],
                draining=node_id in draining,
                held_by=holders,
            )
        )
    return Topology(tuple(nodes))


def _available(total: Resources, told: Resources, held: Resources, lately: Resources) -> Resources:
    """Return what is free of a node, from what it told and from what groups hold and held."""
    beside = total.minus_clamped(told).minus_clamped(held).minus_clamped(lately)
    return total.minus_clamped(held).minus_clamped(beside)


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


def _count(group: GroupRecord, held: _Held) -> None:
    name = _holder_name(group)
    for node_id, bundle in zip(group.nodes, group.bundles, strict=True):
        if node_id:
            on_node = held.setdefault(node_id, {})
            on_node[name] = on_node.get(name, _NOTHING) + Resources(bundle)


def _holder_name(group: GroupRecord) -> str:
    if group.name.startswith("pool:"):
        return f"pool {group.name.split(':')[1]}"
    return group.name or f"placement group {group.group_id[:8]}"
