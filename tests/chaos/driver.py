"""A driver of its own, for tests that end it: it opens a pool, says so on a line, and waits."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import anyio
import ray

import pool
import pool.blocking
from tests import hosts
from tests.tree import BRIEF, ON_ONE_NODE, hosts_of


def say(**facts: object) -> None:
    """Print one line that the test reads."""
    print(json.dumps(facts), flush=True)


async def wait_in(phase: str, folder: Path) -> None:
    host = hosts.Slow if phase == "starting" else hosts.Farewell
    args = () if phase == "starting" else (folder,)
    replicas = pool.ReplicaPool("driven", shape=ON_ONE_NODE, host=host, host_args=args, drain=BRIEF)
    try:
        async with replicas:
            if phase == "starting":
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(replicas.scale, 1)
                    while [member.state for member in replicas.members()] != ["starting"]:
                        await replicas.changed()
                    say(pids=[])
            else:
                await replicas.scale(1, timeout_s=60)
                say(pids=[host.pid for host in hosts_of(replicas[0])])
                await anyio.sleep_forever()
    finally:
        reports = [[report.rung, *report.troubles] for report in replicas.reports]
        say(reports=reports, leftovers=[str(e) for e in replicas.events() if e.kind == "leftover"])


def wait_blocking(folder: Path) -> None:
    with pool.blocking.ReplicaPool(
        "driven", shape=ON_ONE_NODE, host=hosts.Farewell, host_args=(folder,), drain=BRIEF
    ) as replicas:
        replicas.scale(1, timeout_s=60)
        say(pids=[host.pid for host in hosts_of(replicas[0])])
        while True:
            time.sleep(0.1)


def main() -> None:
    address, phase, folder = sys.argv[1:]
    ray.init(address=address, log_to_driver=False)
    try:
        if phase == "blocking":
            wait_blocking(Path(folder))
        else:
            anyio.run(wait_in, phase, Path(folder))
    except KeyboardInterrupt:
        say(interrupted=True)


if __name__ == "__main__":
    main()
