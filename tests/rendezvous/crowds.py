"""Hosts and places for the tests of rendezvous, and Hypothesis strategies for them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from pool.cluster.interface import Actor, Identity
from pool.host.info import HostInfo
from pool.planning.resources import Resources
from pool.rendezvous import Place


def host(replica: int, index: int, hosts: int, node: int, *, tpus: float = 0) -> HostInfo:
    """Make a host on the node of that number."""
    identity = Identity(
        pool=f"p/{replica}.1", instance="abc", slot=index, generation=1, level="host"
    )
    return HostInfo(
        index=index,
        hosts=hosts,
        node_id=f"node-{node}",
        address=f"10.0.0.{node + 1}",
        pid=1,
        bundle=Resources({"CPU": 1, "TPU": tpus}),
        actor=Actor(f"actor-{replica}-{index}", identity),
    )


def crowd(shape: Sequence[Sequence[int]], nodes: int = 100, *, tpus: float = 0) -> list[Place]:
    """Make the places of replicas that have so many processes on each of their hosts."""
    places: list[Place] = []
    node = 0
    for replica, sizes in enumerate(shape):
        for index, size in enumerate(sizes):
            at = host(replica, index, len(sizes), node % nodes, tpus=tpus)
            places += [Place(replica, at, rank, size) for rank in range(size)]
            node += 1
    return places


SHAPES = st.lists(
    st.lists(st.integers(min_value=1, max_value=4), min_size=1, max_size=4), max_size=4
)
"""How many processes each host of each replica has."""
CROWDS = st.builds(crowd, SHAPES, st.integers(min_value=1, max_value=5))
"""Places, on few nodes, so that hosts share them."""
PORTS = st.lists(st.integers(min_value=1, max_value=65_535), min_size=4, max_size=4, unique=True)
