"""Hypothesis strategies for placement planners: small numbers, so that rare states occur."""

from __future__ import annotations

from hypothesis import strategies as st

from pool.planning.packing import Request
from pool.planning.resources import Resources
from pool.planning.shape import BundlePlan, ReplicaShape, Strategy
from pool.planning.topology import ANY_NODE, Node, NodeSelector, Topology

NAMES: list[str] = ["GPU", "CPU", "memory", "disk"]

amounts = st.one_of(
    st.integers(0, 16),
    st.integers(0, 10**6).map(lambda units: units / 10_000),
    st.integers(0, 2**60),
)
resources = st.dictionaries(st.sampled_from(NAMES), amounts).map(Resources)

LABELLED = NodeSelector(labels={"zone": "a"})
WORKERS = NodeSelector(exclude_head=True)


def node(
    name: str,
    gpus: float = 0,
    *,
    cpus: float = 64,
    free: Resources | None = None,
    memory_bytes: int = 0,
    labels: dict[str, str] | None = None,
    is_head: bool = False,
    draining: bool = False,
    held_by: dict[str, Resources] | None = None,
) -> Node:
    """Make a node by its GPUs; CPUs are plenty unless told, and everything is free."""
    total = Resources.of(devices=gpus, cpus=cpus, memory_bytes=memory_bytes)
    return Node(
        node_id=name,
        address=f"10.0.0.{name.lstrip('n') or 0}",
        total=total,
        available=total if free is None else free,
        labels=labels or {},
        is_head=is_head,
        draining=draining,
        held_by=held_by or {},
    )


def gpu_nodes(*gpus: int) -> Topology:
    """Make a topology of free nodes with these numbers of GPUs, named n0, n1, ..."""
    return Topology(tuple(node(f"n{i}", n) for i, n in enumerate(gpus)))


def bundle_plan(n_nodes: int = 1, selector: NodeSelector = ANY_NODE, **each: float) -> BundlePlan:
    """Make a plan of equal bundles, each with these amounts."""
    bundles = (Resources(each),) * n_nodes
    strategy: Strategy = "STRICT_PACK" if n_nodes == 1 else "STRICT_SPREAD"
    return BundlePlan(bundles, strategy, selector, "as the test says")


@st.composite
def small_nodes(draw: st.DrawFn, index: int) -> Node:
    """Draw a node that is often partly in use, and sometimes the head, or draining."""
    gpus, cpus = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    busy = draw(st.booleans())
    free = Resources.of(
        devices=draw(st.integers(0, gpus)) if busy else gpus,
        cpus=draw(st.integers(0, cpus)) if busy else cpus,
    )
    return node(
        f"n{index}",
        gpus,
        cpus=cpus,
        free=free,
        labels={"zone": draw(st.sampled_from("ab"))},
        is_head=index == 0 and draw(st.booleans()),
        draining=draw(st.integers(0, 7)) == 7,
    )


@st.composite
def topologies(draw: st.DrawFn, max_nodes: int = 4) -> Topology:
    """Draw a few small nodes."""
    count = draw(st.integers(0, max_nodes))
    return Topology(tuple(draw(small_nodes(i)) for i in range(count)))


@st.composite
def shapes(draw: st.DrawFn) -> ReplicaShape:
    """Draw a shape that is valid, with devices or without."""
    devices = draw(st.integers(0, 12))
    min_nodes = draw(st.sampled_from([n for n in (1, 1, 1, 2, 3) if devices % n == 0]))
    return ReplicaShape(
        devices=devices,
        cpus_per_device=draw(st.sampled_from([0, 0.5, 1, 2])),
        cpus=draw(st.sampled_from([None, 1, 2, 5, 0.7])) if devices else draw(st.integers(1, 9)),
        memory_bytes=draw(st.sampled_from([None, 0])),
        min_nodes=min_nodes if devices == 0 or min_nodes <= devices else 1,
        max_nodes=draw(st.sampled_from([None, None, 3, 4])),
        selector=draw(st.sampled_from([ANY_NODE, ANY_NODE, WORKERS])),
    )


@st.composite
def bundle_plans(draw: st.DrawFn) -> BundlePlan:
    """Draw a plan of one to three bundles, equal or not, spread or packed."""
    size = st.builds(
        lambda gpus, cpus: Resources.of(devices=gpus, cpus=cpus),
        st.sampled_from([0, 1, 1, 2, 2, 3, 4]),
        st.sampled_from([0, 1, 1, 2, 3]),
    ).filter(bool)
    n = draw(st.sampled_from([1, 1, 2, 2, 3]))
    equal = draw(st.booleans())
    bundles = (draw(size),) * n if equal else tuple(draw(size) for _ in range(n))
    selector = draw(st.sampled_from([ANY_NODE, ANY_NODE, ANY_NODE, LABELLED, WORKERS]))
    spread = n > 1 and draw(st.integers(0, 2)) > 0
    strategy: Strategy = "STRICT_SPREAD" if spread else "STRICT_PACK"
    return BundlePlan(bundles, strategy, selector, "drawn")


requests = st.lists(bundle_plans(), max_size=5).map(
    lambda plans: [Request(f"r{i}", plan) for i, plan in enumerate(plans)]
)
