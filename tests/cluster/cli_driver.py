"""A driver of its own, that holds pools for the command line's tests until it is killed.

Usage: python -m tests.cluster.cli_driver ADDRESS
"""

from __future__ import annotations

import sys

import anyio
import ray

import pool
from tests.tree import ON_ONE_NODE

WRITER = pool.Process(
    command=(sys.executable, "-u", "-c", "import time\nprint('hello')\ntime.sleep(1000)"),
    name="writer",
)


async def main() -> None:
    ray.init(address=sys.argv[1], log_to_driver=False)
    brief, kept = pool.ReplicaPool("brief", shape=ON_ONE_NODE, processes=[WRITER]), None
    kept = pool.ReplicaPool("kept", shape=ON_ONE_NODE, detached=True)
    async with brief, kept:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(brief.scale, 1)
            tasks.start_soon(kept.scale, 1)
        print("ready", flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main)
