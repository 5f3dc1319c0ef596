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


requests = st.lists(bundle_plans(), max_size=4).map(
    lambda plans: [Request(f"r{i}", plan) for i, plan in enumerate(plans)]
)


@st.composite
def tight_cases(draw: st.DrawFn) -> tuple[list[Request], Topology]:
    """Draw requests that were carved out of a topology, and sometimes one unit too many.

    Requests and nodes drawn apart hardly ever just fit; these do, or just do not.
    """
    nodes = []
    for i in range(draw(st.integers(1, 4))):
        gpus, cpus = draw(st.integers(2, 7)), draw(st.integers(2, 7))
        used = draw(st.sampled_from([0, 0, 1, 2]))
        free = Resources.of(devices=gpus - used, cpus=cpus - draw(st.integers(0, used)))
        zone = draw(st.sampled_from("aab"))
        nodes.append(
            node(f"n{i}", gpus, cpus=cpus, free=free, labels={"zone": zone}, is_head=i == 0)
        )
    by_total = draw(st.integers(0, 2)) == 0
    left = [n.total if by_total else n.available for n in nodes]
    plans: list[tuple[list[Resources], Strategy, NodeSelector]] = []
    for _ in range(draw(st.integers(1, 5))):
        chosen = draw(st.permutations(range(len(nodes))))[: draw(st.sampled_from([1, 1, 2, 2, 3]))]
        bundles: list[Resources] = []
        equal = draw(st.booleans())
        for n in chosen:
            if equal and bundles and bundles[0].fits_in(left[n]):
                taken = bundles[0]
            else:
                gpus = draw(st.integers(0, int(left[n].get("GPU", 0))))
                cpus = draw(st.integers(0, int(left[n].get("CPU", 0))))
                taken = Resources.of(devices=gpus, cpus=cpus)
            if taken:
                left[n] -= taken
                bundles.append(taken)
        if bundles:
            fitting = [s for s in (LABELLED, WORKERS) if all(s.matches(nodes[n]) for n in chosen)]
            selector = draw(st.sampled_from([ANY_NODE, *fitting]))
            strategy: Strategy = "STRICT_SPREAD" if len(bundles) > 1 else "STRICT_PACK"
            plans.append((bundles, strategy, selector))
    if plans and draw(st.integers(0, 2)) == 0:
        bundles = draw(st.sampled_from(plans))[0]
        bundles[0] += draw(st.sampled_from([Resources.of(devices=1), Resources.of(cpus=1)]))
    return (
        [
            Request(f"r{i}", BundlePlan(tuple(bundles), strategy, selector, "carved"))
            for i, (bundles, strategy, selector) in enumerate(plans)
        ],
        Topology(tuple(nodes)),
    )


packing_cases = st.one_of(tight_cases(), tight_cases(), st.tuples(requests, topologies()))
