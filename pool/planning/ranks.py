"""Ranks of workers after they were placed: by replica, then node, then device.

Purpose: give neighbours neighbouring ranks. Workers of a node have consecutive ranks, nodes of a
replica are in the numeric order of their addresses, and replicas are in the order of their
slots; so rank r and rank r + 1 are as close as the placement allows.

Limits: a plan needs to know where each worker landed; before that there are no ranks. Where
nodes stay the same between two plans, ranks stay the same (given the previous plan), so that
shards on local disks are found again; where a node was replaced, the new one takes its place.

Why not the order of the bundles: Ray sorts equal bundles unstably, and 17 bundles on three nodes
of 8 come out interleaved. Why not sort addresses as text: 10.0.0.10 would come before 10.0.0.9.
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from pool.errors import ConfigError

_DIGITS = re.compile(r"(\d+)")

SortKey = tuple[int, tuple[tuple[int, int, str], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Say where one worker landed.

    Args:
        key: The worker's name, unique in a plan.
        replica: The slot of its replica.
        address: The address of its node.
        node_id: Ray's id of its node.
        device: The index or the id (UUID) of its first device; "" if it has none.
        index: Tells workers on one device apart, such as the index of their bundle.
    """

    key: str
    replica: int
    address: str
    node_id: str
    device: int | str = ""
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Hold one worker's ranks.

    Args:
        worker: Where it is.
        rank: Among all workers of the plan.
        replica_rank: Among the workers of its replica.
        node_rank: The rank of its node within its replica.
        local_rank: Among the workers of its replica on its node.
        local_size: How many workers of its replica are on its node.
    """

    worker: Placed
    rank: int
    replica_rank: int
    node_rank: int
    local_rank: int
    local_size: int


@dataclass(frozen=True, slots=True)
class RankPlan:
    """Hold the ranks of all workers, in the order of ranks.

    Args:
        ranks: Rank r at index r.
        reason: What the order follows.
    """

    ranks: tuple[Rank, ...]
    reason: str
    _by_key: dict[str, Rank] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {rank.worker.key: rank for rank in self.ranks})

    def __getitem__(self, key: str) -> Rank:
        """Return the ranks of one worker.

        Args:
            key: The worker's name.

        Returns:
            Its ranks.

        Raises:
            KeyError: There is no such worker.
        """
        return self._by_key[key]


def natural_key(value: int | str) -> SortKey:
    """Return a key that sorts addresses, host names and device ids as a person would.

    IPv4 addresses sort first, by number; then IPv6, by number; then other texts, digits in them
    by value (gpu2 before gpu10).

    Args:
        value: An address, a host name, a device index or a device id.

    Returns:
        The key.
    """
    if isinstance(value, int):
        return (0, ((0, value, ""),))
    try:
        address = ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        # NB: (0, number) before (1, text), so that a number is never compared with a text.
        parts = tuple(
            (0, int(part), "") if part.isdecimal() else (1, 0, part)
            for part in _DIGITS.split(value)
            if part
        )
        # A text that is one number is an index, as devices have; it sorts as the int would.
        return (0 if len(parts) == 1 and parts[0][0] == 0 else 7, (*parts, (2, 0, value)))
    scope = getattr(address, "scope_id", None) or ""
    return (address.version, ((0, int(address), scope),))


def plan_ranks(placed: Iterable[Placed], previous: RankPlan | None = None) -> RankPlan:
    """Order workers by (replica, node in numeric address order, device).

    Args:
        placed: Every worker, in any order.
        previous: The plan before this one, if there was one: a node that was in it keeps its
            place among the nodes of its replica, by its id, or by its address where ids changed
            (as they do when Ray restarts); new nodes fill the places that are left.

    Returns:
        Ranks 0..n-1. Workers of a replica, and within it of a node, are consecutive.

    Raises:
        ConfigError: Two workers have one key, or one node has two addresses.
    """
    workers = sorted(placed, key=_worker_key)
    if len({worker.key for worker in workers}) != len(workers):
        raise ConfigError("two workers have the same key; give each worker once", "placed")
    addresses: dict[str, str] = {}
    for worker in workers:
        known = addresses.setdefault(worker.node_id, worker.address)
        if known != worker.address:
            raise ConfigError(
                f"node {worker.node_id!r} has the addresses {known} and {worker.address}; "
                "give each node one",
                "placed",
            )
    before = _node_orders(previous)
    ranks: list[Rank] = []
    kept = 0
    for replica, members in groupby(workers, key=lambda worker: worker.replica):
        by_node = {
            node: tuple(group)
            for node, group in groupby(members, key=lambda worker: (worker.address, worker.node_id))
        }
        order, stayed = _order_nodes(tuple(by_node), before.get(replica, ()))
        kept += stayed
        first = len(ranks)
        for node_rank, node in enumerate(order):
            for local_rank, worker in enumerate(by_node[node]):
                ranks.append(
                    Rank(
                        worker=worker,
                        rank=len(ranks),
                        replica_rank=len(ranks) - first,
                        node_rank=node_rank,
                        local_rank=local_rank,
                        local_size=len(by_node[node]),
                    )
                )
    reason = "by replica, then node address in numeric order, then device"
    if previous is not None:
        reason += f"; {kept} nodes kept the place that they had before"
    return RankPlan(tuple(ranks), reason)


_NodeKey = tuple[str, str]
"""(address, node id): several nodes may share an address when they run on one machine."""


def _worker_key(worker: Placed) -> tuple[int, SortKey, str, str, SortKey, int, SortKey]:
    return (
        worker.replica,
        natural_key(worker.address),
        # Two spellings of one IPv6 address sort alike; the text keeps each node's workers together.
        worker.address,
        worker.node_id,
        natural_key(worker.device),
        worker.index,
        natural_key(worker.key),
    )


def _node_orders(plan: RankPlan | None) -> dict[int, tuple[_NodeKey, ...]]:
    """Return the nodes of each replica of a plan, in the order of their ranks."""
    orders: dict[int, dict[_NodeKey, None]] = {}
    for rank in plan.ranks if plan is not None else ():
        worker = rank.worker
        orders.setdefault(worker.replica, {})[(worker.address, worker.node_id)] = None
    return {replica: tuple(nodes) for replica, nodes in orders.items()}


def _order_nodes(
    nodes: Sequence[_NodeKey], before: Sequence[_NodeKey]
) -> tuple[list[_NodeKey], int]:
    """Return the nodes with those that were there before in their places, and how many stayed.

    `nodes` comes in numeric order; what fills the free places keeps that order.
    """
    places: dict[int, _NodeKey] = {}
    left = dict.fromkeys(nodes)
    # By id first: where two nodes share an address, only the id tells which one stayed.
    by_id = {node_id: (address, node_id) for address, node_id in nodes}
    for place, (_, node_id) in enumerate(before[: len(nodes)]):
        same = by_id.pop(node_id, None)
        if same is not None:
            places[place] = same
            del left[same]
    by_address: dict[str, deque[_NodeKey]] = {}
    for node in left:
        by_address.setdefault(node[0], deque()).append(node)
    for place, (address, _) in enumerate(before[: len(nodes)]):
        if place not in places and by_address.get(address):
            places[place] = by_address[address].popleft()
            del left[places[place]]
    fill = iter(left)
    order = [places[i] if i in places else next(fill) for i in range(len(nodes))]
    return order, len(places)
