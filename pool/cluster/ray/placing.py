"""How a placement group is placed without a wait that Ray would add.

Ray puts a group off that it cannot place at once, for a tenth of a second, then for twice as long
and more. A slot's next group, on the node of its last one, meets that node while it gives back what
the last one had. And Ray's own way to wait for a group runs a task in it, which costs a worker
process. So here a group is made when there is room for it, and looked at until it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, repeat

import anyio
import anyio.to_thread
import ray
from ray.util.placement_group import PlacementGroup

from pool.cluster.ray import private, reach
from pool.planning.resources import Resources

PAUSES_S = tuple(accumulate(repeat(0.005, 8), lambda pause, _: 2 * pause))
"""Between looks: 5 ms and twice as long each time, 1.3 s in all."""

GIVEN_BACK_PAUSES_S = PAUSES_S[:7]
"""Some processes take long to end; after 0.6 s Ray may as well put the group off."""


async def until_given_back(bundles: Sequence[Resources], nodes: Sequence[str]) -> None:
    """Wait until nodes have room for bundles that they had room for before, but not for long."""
    for pause_s in GIVEN_BACK_PAUSES_S:
        free = await anyio.to_thread.run_sync(private.available_resources_per_node)
        if _have_room(free, bundles, nodes):
            return
        await anyio.sleep(pause_s)


def _have_room(
    free: Mapping[str, Mapping[str, float]], bundles: Sequence[Resources], nodes: Sequence[str]
) -> bool:
    needed: dict[str, dict[str, float]] = {}
    for node, bundle in zip(nodes, bundles, strict=True):
        on_node = needed.setdefault(node, {})
        for name, amount in bundle.items():
            on_node[name] = on_node.get(name, 0.0) + amount
    return all(
        amount <= free.get(node, {}).get(name, 0.0)
        for node, amounts in needed.items()
        for name, amount in amounts.items()
    )


async def until_placed(group: PlacementGroup, count: int) -> tuple[str, ...]:
    """Wait until a group is placed, and return the nodes of its bundles, in order."""
    for pause_s in PAUSES_S:
        nodes = await anyio.to_thread.run_sync(_nodes_of_bundles, group, count)
        if nodes:
            return nodes
        await anyio.sleep(pause_s)
    await group.ready()
    return await anyio.to_thread.run_sync(_nodes_of_bundles, group, count)


def _nodes_of_bundles(group: PlacementGroup, count: int) -> tuple[str, ...]:
    """Return the nodes of a group's bundles; nothing while it is not placed."""
    table = ray.util.placement_group_table(group)
    if table["state"] != "CREATED":
        return ()
    nodes = table["bundles_to_node_id"]
    found = tuple(nodes[index] for index in range(count))
    reach.remember(found)
    return found
