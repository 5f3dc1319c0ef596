"""Train on a pool, so that the loss of a process or a node costs no more than an epoch.

    python -m docs.examples.digits.elastic --folder checkpoints --nodes 2 --per-node 2

The training itself is in `train.py`, which knows nothing of this. Here is said what it runs on: one
replica is one gang, and the gang is one world of `torch.distributed`.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import ray

import pool
from docs.examples.digits.train import Config, Trainer

FORGIVEN = {pool.Cause.CRASH: 3, pool.Cause.UNHEALTHY: 3}
"""How often our own faults are forgiven. What the platform takes away does not count."""


async def train(
    config: Config,
    shape: pool.ReplicaShape,
    per_host: int,
    worker: type[Trainer] = Trainer,
    **options: Any,
) -> pool.Outcome[list[dict[str, Any]]]:
    """Train to the end, whatever is lost on the way, and return what each rank says."""
    ranks = pool.Ranks(worker, args=(config,), per_host=per_host)
    async with pool.ReplicaPool("digits", shape=shape, ranks=ranks, **options) as replicas:
        replicas.follow(print)
        await replicas.scale(1)
        return await pool.run_resumable(
            replicas,
            lambda attempt: replicas.broadcast("train", on="rank", flat=True),
            budgets=FORGIVEN,
        )


def main() -> None:
    """Train on the cluster that this machine belongs to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--per-node", type=int, default=2)
    given = parser.parse_args()
    ray.init(address="auto", log_to_driver=False)
    shape = pool.ReplicaShape(cpus=given.nodes * given.per_node, min_nodes=given.nodes)
    outcome = asyncio.run(train(Config(given.folder), shape, given.per_node))
    first = outcome.unwrap()[0]
    print(f"{first['accuracy']:.1%} of the held-out digits are recognised,", end=" ")
    print(f"after {outcome.attempts} tries, the last of them from epoch {first['resumed_at']}")


if __name__ == "__main__":
    main()
