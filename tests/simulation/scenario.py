"""A seed's scenario: a cluster, a pool, faults, and a driver that changes its mind."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio

import pool
from pool.planning.rolling import RollPolicy
from pool.testing import Autoscaler, FaultPlan, SimNode, SimulatedCluster, run
from pool.testing.watch import Watch

FAULTS = FaultPlan(
    start_fails=0.02,
    start_hangs=0.005,
    drain_hangs=0.05,
    shutdown_hangs=0.05,
    group_unready=0.03,
    reply_lost=0.002,
    reply_late=0.002,
    source_unavailable=0.01,
    poll_unavailable=0.01,
    actor_kills_per_h=1,
    health_hangs_per_h=0.5,
    node_losses_per_h=0.3,
    node_silences_per_h=0.5,
    node_silent_for_s=(1.0, 120.0),
    notices_per_h=0.5,
    notice_withdrawn=0.3,
    stalls_per_h=2,
    stall_s=(0.5, 20.0),
)
"""Everything at once, some hundred times as often as in a bad week."""

LINGERS_S = 140.0
"""How long a member that is cut off keeps its slot: lease (60 s), its own grace and that of its
hosts (30 s each), the hosts' patience (12 s), and respite (5 s)."""
CONVERGES_S = 420.0 + LINGERS_S
"""How long a pool may take to settle once nothing goes wrong any more.

The longest way there: a start that hangs is given up after START_S, or a bad health is noticed
after failures × period (15 s) and grace (30 s); a silent node is given up after its `silence_s`;
the ladder takes 30 s, and a death that nobody confirms 5 s more; then the back-off of 60 s, a
reservation that is not ready and is made anew after 60 s, and another start. Beside that the slot
of a member that is cut off lingers, and until it is closed the pool is not settled.
"""
START_S = 60.0


@dataclass
class Outcome:
    """What became of a scenario."""

    digest: str
    cluster: SimulatedCluster
    settled_s: float
    restarts: int
    faults: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)


class Newer(pool.NodeHost):
    """Be other code to roll to."""


def play(seed: int, hours: float = 1.0, *, faults: FaultPlan = FAULTS, **options: Any) -> Outcome:
    """Play a seed's scenario to its end; an invariant that breaks is raised, with the story."""
    return run(partial(_play, seed, hours, faults, options), seed=seed, limit_s=hours * 3600 * 10)


async def _play(seed: int, hours: float, faults: FaultPlan, options: dict[str, Any]) -> Outcome:
    chance = random.Random(f"scenario {seed}")
    nodes = chance.choice([4, 6, 10])
    devices = chance.choice([4, 16, 16])  # one host, which is its replica, or two
    scaler = Autoscaler(node=SimNode(gpus=8), delay_s=60, nodes_max=nodes)
    if faults is FAULTS:
        # Nodes that the cluster gives up soon, or only after the leases there are over.
        faults = dataclasses.replace(faults, silence_s=chance.choice([14.0, 14.0, 100.0]))
    cluster = SimulatedCluster(
        [SimNode(gpus=8)] * nodes,
        seed=seed,
        faults=faults,
        autoscaler=scaler if chance.random() < 0.3 else None,
    )
    cluster.note(f"seed {seed}: {nodes} nodes of 8, replicas of {devices}")
    most = nodes * 8 // devices
    given: dict[str, Any] = {
        "shape": pool.ReplicaShape(devices=devices, cpus_per_device=1),
        "hosts_hold_devices": chance.random() < 0.3,
        "surge": chance.choice([0, 1, 1, 2]),
        "spares": min(chance.choice([0, 0, 1, 2]), most - 1),
        "lease_s": chance.choice([21.0, 30.0, 60.0]),
        "start_timeout_s": START_S,
        "restart": pool.RestartPolicy(intensity=chance.choice([3, 20, 1000])),
    }
    rolls = chance.random() < 0.6
    replicas = pool.ReplicaPool("r", cluster=cluster, **(given | options))
    # A word drawn at random would make two equal runs differ.
    replicas.instance = "simulated"
    cluster.listen(replicas)
    watch = Watch(replicas, cluster)
    bystander = await _start_bystander(cluster)
    async with replicas:
        begun = anyio.current_time()
        await _try_scale(cluster, replicas, chance.randint(1, most), 60)
        while anyio.current_time() < begun + hours * 3600:
            await anyio.sleep(chance.expovariate(1 / 20))
            watch.check()
            if chance.random() < 0.03:
                await _change_mind(chance, cluster, replicas, most)
                watch.check()
            if rolls and chance.random() < 0.02:
                await _roll(chance, cluster, replicas)
                watch.check()
        # One in four closes in the midst of it all.
        settled_s = 0.0
        if seed % 4:
            # Room for the spares, and for one that comes before another goes.
            size = max(1, most - 1 - replicas.policies.spares)
            settled_s = await _calm_down(cluster, replicas, nodes, size)
            watch.check()
            await _check_stays_settled(cluster, replicas)
    watch.check_closed()
    assert bystander in cluster.actors("bystander"), "INV-10: a bystander was reaped"
    return Outcome(
        cluster.digest, cluster, settled_s, watch.restarts, watch.faults, watch.occasions
    )


class Bystander:
    """Somebody else's actor."""


async def _start_bystander(cluster: SimulatedCluster) -> pool.Actor:
    # On a node of its own, that no fault strikes.
    node = cluster.add_node(SimNode(cpus=1))
    cluster.spare_node(node)
    other = pool.Identity(pool="r", instance="other", slot=0, generation=1, level="bystander")
    return await cluster.start(
        pool.ActorSpec(body=Bystander, label="Bystander", identity=other, node_id=node)
    )


async def _change_mind(
    chance: random.Random, cluster: SimulatedCluster, replicas: pool.ReplicaPool, most: int
) -> None:
    size = chance.choice([chance.randint(0, most), sorted({1, max(1, most // 2), most})])
    limit_s = chance.choice([0.5, 5, 60])
    cancelled = chance.random() < 0.3
    cluster.note(f"the driver scales to {size} within {limit_s} s{' and gives up' * cancelled}")
    # INV-11: a cancelled call leaves the pool consistent.
    with anyio.move_on_after(chance.uniform(0, limit_s) if cancelled else math.inf):
        await _try_scale(cluster, replicas, size, limit_s)


async def _roll(
    chance: random.Random, cluster: SimulatedCluster, replicas: pool.ReplicaPool
) -> None:
    """Roll to another host class or back, in one of the ways in which drivers do it."""
    surge = chance.choice([0, 1, 2])
    policy = RollPolicy(surge=surge, max_unavailable=chance.choice([0, 1]) if surge else 1)
    host = chance.choice([pool.NodeHost, Newer])
    way = chance.choice(["waits", "cancels", "pauses", "turns back", "rolls again"])
    cluster.note(f"the driver rolls to {host.__name__} and {way}: {policy}")
    patience_s = chance.uniform(0, 10)
    # INV-11: a cancelled call leaves the roll in force.
    with anyio.move_on_after(patience_s if way == "cancels" else math.inf):
        await _try_roll(cluster, replicas.change(host=host, policy=policy, timeout_s=patience_s))
    match way:
        case "pauses":
            replicas.pause_roll()
            await anyio.sleep(chance.uniform(0, 60))
            replicas.resume_roll()
        case "turns back":
            await _try_roll(cluster, replicas.roll_back(policy, timeout_s=60))
        case "rolls again":
            await _try_roll(cluster, replicas.roll(timeout_s=60))
        case _:
            pass


async def _try_roll(cluster: SimulatedCluster, rolling: Awaitable[Any]) -> None:
    try:
        await rolling
    except pool.PoolFailed as error:
        cluster.note(f"the driver is told: {type(error).__name__}")


async def _try_scale(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool, size: Any, limit_s: float
) -> None:
    try:
        await replicas.scale(size, timeout_s=limit_s)
    except (pool.SizeUnreachable, pool.InfeasibleError) as error:
        cluster.note(f"the driver is told: {type(error).__name__}")


async def _calm_down(
    cluster: SimulatedCluster, replicas: pool.ReplicaPool, nodes: int, size: int
) -> float:
    """Let nothing go wrong any more; returns how long the pool takes to settle."""
    cluster.faults = cluster.faults.calm()
    for node in cluster.nodes:
        cluster.undrain_node(node)
    for _ in range(nodes + 1 - len(cluster.nodes)):
        cluster.add_node()
    begun = anyio.current_time()
    try:
        # A member that a fault left hanging may yet use the last of the intensity up (INV-6). Then
        # the pool has given up, rightly, and its driver decides to go on.
        with contextlib.suppress(pool.PoolFailed):
            await replicas.scale(size, timeout_s=CONVERGES_S)
            await replicas.wait_settled(CONVERGES_S)
        await replicas.scale(size, timeout_s=CONVERGES_S)
        await replicas.wait_settled(CONVERGES_S)
    except (TimeoutError, pool.PoolError) as error:
        raise AssertionError(
            f"INV-5: the pool did not settle: {error!r}\n{replicas.snapshot()}\n{cluster.story()}"
        ) from error
    settled_s = anyio.current_time() - begun
    cluster.note(f"settled {settled_s:.3f} s after the last fault")
    return settled_s


async def _check_stays_settled(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    """INV-5: from a settled state nothing is planned, and nobody moves."""
    # A reply that was lost just before may still come to light in the next rounds of polls.
    await anyio.sleep(60)
    said = len(replicas.events())
    await anyio.sleep(600)
    assert replicas.is_settled, f"INV-5: it is settled no more: {replicas.snapshot()}"
    later = [str(event) for event in replicas.events()[said:]]
    assert not later, f"INV-5: a settled pool did {later}"
