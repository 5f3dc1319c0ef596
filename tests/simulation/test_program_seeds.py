"""Two roles on the same devices through an hour of faults from a seed, and together afterwards."""

from __future__ import annotations

import random

import anyio

import pool
from pool.testing import SimNode, SimulatedCluster, run
from pool.testing.invariants import validate
from tests.simulation.scenario import CONVERGES_S, FAULTS

SECONDS = 3600.0
NODES = 4


def test_roles_that_share_devices_are_together_again_when_faults_are_over(seed: int) -> None:
    async def main() -> None:
        chance = random.Random(f"programs {seed}")
        cluster = SimulatedCluster([SimNode(gpus=8)] * NODES, seed=seed, faults=FAULTS)
        train = pool.ReplicaPool(
            "train",
            shape=pool.ReplicaShape(devices=4),
            shares=pool.Peers(2) if seed % 2 else pool.MainAndSides(side_cpus=1),
            hosts_hold_devices=True,
            restart=pool.RestartPolicy(intensity=10_000),
            start_timeout_s=60,
            cluster=cluster,
            instance="one",
        )
        infer = pool.ColocatedPool(
            "infer",
            beside=train,
            restart=pool.RestartPolicy(intensity=10_000),
            start_timeout_s=60,
            instance="two",
        )
        cluster.listen(train)
        cluster.listen(infer)
        async with pool.Program(train, infer) as program:
            begun = anyio.current_time()
            while anyio.current_time() < begun + SECONDS:
                size = chance.randint(1, 4)
                try:
                    await program.scale({"train": size}, timeout_s=chance.uniform(1, 200))
                except (pool.ProgramUnreachable, pool.InfeasibleError):
                    cluster.note("it was not to be")
                await anyio.sleep(chance.expovariate(1 / 120))
                for each in (train, infer):
                    validate(each, cluster)
            cluster.faults = cluster.faults.calm()
            for node in cluster.nodes:
                cluster.undrain_node(node)
            while len(cluster.nodes) < NODES + 1:
                cluster.add_node()
            await anyio.sleep(CONVERGES_S)
            await program.scale({"train": 2}, timeout_s=CONVERGES_S)
            with anyio.fail_after(CONVERGES_S):
                await train.wait_settled()
                await infer.wait_settled()
            assert [each.nodes for each in infer.members()] == [
                each.nodes for each in train.members()
            ]
            for each in (train, infer):
                validate(each, cluster)
        assert cluster.left("train") == cluster.left("infer") == []

    run(main, seed=seed, limit_s=SECONDS * 10)
