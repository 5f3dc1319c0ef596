"""Train with `torchrun` itself on a pool: each host of a replica runs one, and they meet.

    python -m docs.examples.digits.launched --folder checkpoints --nodes 2 --per-node 2

The program that is trained with is `train.py`, as on one machine. The pool keeps a launcher on each
node, and makes the gang anew when one is lost; this module waits until all launchers are done.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import ray

import pool
from docs.examples.digits.elastic import FORGIVEN
from docs.examples.digits.train import Config

PROGRAM = Path(__file__).with_name("train.py")


def launcher(config: Config, per_node: int, program: Path = PROGRAM) -> pool.Process:
    """Describe the `torchrun` of one node."""
    settings = [f"--{name}={value}" for name, value in dataclasses.asdict(config).items()]
    return pool.Process(
        [
            *(sys.executable, "-m", "torch.distributed.run"),
            pool.Fill("--nnodes={GROUP_WORLD_SIZE}"),
            pool.Fill("--node-rank={GROUP_RANK}"),
            pool.Fill("--master-addr={MASTER_ADDR}"),
            pool.Fill("--master-port={MASTER_PORT}"),
            f"--nproc-per-node={per_node}",
            *(str(program), *settings),
        ],
        name="torchrun",
    )


async def done(replicas: pool.ReplicaPool) -> dict[str, Any]:
    """Wait until every launcher has finished, and return what the first process says.

    Raises:
        MemberLost: One did not finish, or its node is gone.
    """
    [hosts] = replicas.hosts()
    launchers = [await host.process("torchrun") for host in hosts]
    await asyncio.gather(*(finished(each) for each in launchers))
    told = [line for line in (await launchers[0].tail()).splitlines() if line.startswith("{")]
    result: dict[str, Any] = json.loads(told[-1])
    return result


async def finished(process: pool.ManagedProcess) -> None:
    """Wait until a launcher has finished its work.

    Raises:
        MemberLost: It ended otherwise: its replica is lost with it, or was told to leave.
    """
    end = await process.wait()
    if not end.is_clean:
        member = process.host.actor.identity.pool
        raise pool.MemberLost(member, pool.Cause.CRASH, f"{process.name} ended with {end}")


async def train(
    config: Config,
    shape: pool.ReplicaShape,
    per_node: int,
    program: Path = PROGRAM,
    **options: Any,
) -> pool.Outcome[dict[str, Any]]:
    """Train to the end, whatever is lost on the way, and return what the first process says."""
    async with pool.ReplicaPool(
        "digits",
        shape=shape,
        processes=[launcher(config, per_node, program)],
        rendezvous=pool.rendezvous.torch(),
        surge=0,  # A gang trains from its start, so its successor waits until it is gone.
        **options,
    ) as replicas:
        replicas.follow(print)
        await replicas.scale(1)
        return await pool.run_resumable(replicas, lambda _: done(replicas), budgets=FORGIVEN)


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
    result = outcome.unwrap()
    print(f"{result['accuracy']:.1%} of the held-out digits are recognised,", end=" ")
    print(f"after {outcome.attempts} tries, the last of them from epoch {result['resumed_at']}")


if __name__ == "__main__":
    main()
