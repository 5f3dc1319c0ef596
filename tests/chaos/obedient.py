"""A driver that opens a pool, tells all that happens in it, and does what it is told on a line.

For tests whose cluster the test process itself cannot join: it is connected to another one, or has
no way into the network. What is said, and what is obeyed, stands in `Orders` and `say`.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import anyio
import anyio.to_thread
import ray

import pool
from pool.cluster.ray import private
from tests.tree import BRIEF, QUICK, hosts_of, ids_of

PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Say what pool to open; it travels as JSON.

    Args:
        address: Where Ray is.
        name: The pool's name.
        devices: GPUs of one replica.
        replicas: How many replicas.
        warm: Room for how many more is kept warm, in a cluster that grows if there are any.
        health: The pool's health policy.
        lease_s: How long members live without a word.
    """

    address: str
    name: str = "obedient"
    devices: int = 2
    replicas: int = 2
    warm: int = 0
    health: pool.HealthPolicy = field(default_factory=pool.HealthPolicy)
    lease_s: float = 60.0

    def to_json(self) -> str:
        """Return what `from_json` reads, in the process of the driver."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Orders:
        given = json.loads(text)
        return cls(**(given | {"health": pool.HealthPolicy(**given["health"])}))


def say(what: str, **facts: object) -> None:
    """Print one line that the test reads."""
    print(json.dumps({"what": what, "at": time.time(), **facts}, default=str), flush=True)


def table(replicas: pool.ReplicaPool) -> list[dict[str, Any]]:
    """Return every member that is not gone, as the pool shows it."""
    return [
        {
            "rank": slot.rank,
            "id": slot.member.id,
            "state": slot.member.state,
            "reason": slot.reason,
        }
        for slot in replicas.snapshot().slots
        if slot.member is not None
    ]


def portraits(replicas: pool.ReplicaPool) -> list[dict[str, Any]]:
    """Return what a test has to know of the members that serve, to harm them."""
    actors = private.actor_table()
    return [
        {
            "id": member.id,
            "rank": member.rank,
            "actors": sorted(ids_of(member)),
            "addresses": [host.address for host in hosts_of(member)],
            "root_pid": int(actors[member.actor.id]["Pid"]),
            "host_pids": [host.pid for host in hosts_of(member)],
        }
        for member in replicas.members(serving=True)
        if member.actor is not None
    ]


async def tell_changes(replicas: pool.ReplicaPool) -> None:
    told: list[dict[str, Any]] = []
    while True:
        now = table(replicas)
        if now != told:
            told = now
            say("table", members=now, settled=replicas.is_settled)
        await replicas.changed()


async def obey(replicas: pool.ReplicaPool) -> None:
    """Carry out one order after the other; the last is `close`."""
    while True:
        line = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        match line.split():
            case ["scale", size]:
                result = await replicas.scale(int(size), timeout_s=PATIENCE_S)
                say("scaled", reached=result.reached)
            case ["settle"]:
                await replicas.wait_settled(PATIENCE_S)
                say("settled", members=portraits(replicas))
            case ["call"]:
                say("called", results=await replicas.broadcast(abs, -1, timeout_s=PATIENCE_S))
            case _:
                return


async def main(orders: Orders) -> None:
    async with pool.ReplicaPool(
        orders.name,
        shape=pool.ReplicaShape(devices=orders.devices),
        health=orders.health,
        restart=QUICK,
        drain=BRIEF,
        lease_s=orders.lease_s,
        cluster_grows=orders.warm > 0,
        warm=orders.warm,
    ) as replicas:
        replicas.follow(
            lambda event: say(
                event.kind, slot=event.slot, generation=event.generation, **event.facts
            )
        )
        await replicas.scale(orders.replicas, timeout_s=PATIENCE_S)
        say("ready", members=portraits(replicas))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tell_changes, replicas)
            await obey(replicas)
            tasks.cancel_scope.cancel()
    say(
        "closed",
        reports=[[report.rung, *report.troubles] for report in replicas.reports],
        leftovers=[str(e) for e in replicas.events() if e.kind is pool.EventKind.LEFTOVER],
    )


if __name__ == "__main__":
    given = Orders.from_json(sys.argv[1])
    ray.init(address=given.address, log_to_driver=False)
    anyio.run(main, given)
