"""An owner of a detached pool, as a process of its own, for tests that end it or let it fight.

`python -m tests.chaos.owner ADDRESS PLAN` does as the plan says and tells on standard output, a
JSON object a line.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import ray

import pool
from tests.tree import BRIEF, HASTY, ON_ONE_NODE, QUICK, hosts_of

NAME = "kept"
LEASE_S = 6.0


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def tell_of(replicas: pool.ReplicaPool) -> dict[str, Any]:
    members = replicas.members(serving=True)
    return {
        "ids": [member.id for member in members],
        "actors": [member.actor.id for member in members if member.actor],
        "pids": [host.pid for member in members for host in hosts_of(member)],
    }


def make(**options: Any) -> pool.ReplicaPool:
    given: dict[str, Any] = {
        "shape": ON_ONE_NODE,
        "drain": BRIEF,
        "health": HASTY,
        "restart": QUICK,
        "lease_s": LEASE_S,
        "detached": True,
    }
    return pool.ReplicaPool(NAME, **(given | options))


async def hold(plan: str) -> None:
    """Own the pool until the process ends."""
    async with make(detached=plan != "owned") as replicas:
        await replicas.scale(2, timeout_s=60)
        say(**tell_of(replicas))
        if plan == "leave":
            await replicas.detach()
        elif plan == "roll":
            await replicas.roll()
        else:
            try:
                while True:
                    await replicas.changed()
                    if plan == "held":
                        await replicas.scale(2)
            except pool.Fenced as error:
                say(fenced=str(error))


def main() -> None:
    address, plan = sys.argv[1:]
    ray.init(address=address, log_to_driver=False)
    anyio.run(hold, plan)
    say(done=True)


if __name__ == "__main__":
    main()
