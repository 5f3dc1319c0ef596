"""A driver of its own, that holds pools for the command line's tests until it is killed.

Usage: python -m tests.cluster.cli_driver ADDRESS
"""

from __future__ import annotations

import sys

import anyio
import ray

import pool
from tests.tree import ON_ONE_NODE

SERVER = pool.Process(
    (sys.executable, "-u", "-c", "import time\nprint('hello')\ntime.sleep(1000)"),
    name="server",
)


async def main() -> None:
    ray.init(address=sys.argv[1], log_to_driver=False)
    rollout = pool.ReplicaPool("rollout", shape=ON_ONE_NODE, processes=[SERVER])
    evaluation = pool.ReplicaPool("eval", shape=ON_ONE_NODE, detached=True)
    async with rollout, evaluation:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rollout.scale, 1)
            tasks.start_soon(evaluation.scale, 1)
        print("ready", flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main)
