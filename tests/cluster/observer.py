"""A process that looks at a cluster which the tests' own process is not connected to.

It takes the orders of `main` on lines, and tells on lines what it sees.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import anyio
import ray

from pool.cluster.ray import private
from pool.cluster.ray.cluster import RayCluster
from pool.demand.broker import BROKER
from tests.cluster.coordinator import start_coordinator
from tests.tree import kill

PATIENCE_S = 120.0
END_S = 30.0


def say(what: str, **facts: object) -> None:
    """Print one line that the test reads."""
    print(json.dumps({"what": what, "at": time.time(), **facts}, default=str), flush=True)


def nodes() -> int:
    """Return how many nodes with GPUs are alive."""
    return sum(node["Alive"] and "GPU" in node["Resources"] for node in ray.nodes())


def wait_for_nodes(count: int) -> None:
    until = time.time() + PATIENCE_S
    while nodes() != count and time.time() < until:
        time.sleep(0.05)
    say("nodes", count=nodes())


def watch_nodes(for_s: float) -> None:
    """Say the least and the most nodes there were for a while."""
    until = time.time() + for_s
    seen = set()
    while time.time() < until:
        seen.add(nodes())
        time.sleep(0.1)
    say("watched", least=min(seen), most=max(seen))


async def look() -> None:
    cluster = RayCluster()
    broker = await cluster.find(BROKER)
    if broker is None:
        say("standing", there=False)
        return
    seen = await cluster.call(broker, "look", timeout_s=10)
    say("standing", there=True, totals=dict(seen.totals), pools=dict(seen.pools), way=seen.way)


def kill_broker() -> None:
    [broker] = [
        actor
        for actor in private.actor_table().values()
        if actor["Name"] == str(BROKER) and actor["State"] == "ALIVE"
    ]
    kill(int(broker["Pid"]))
    say("killed")


def ours() -> list[str]:
    """Return the names of the live actors, the coordinator left out."""
    actors = private.actor_table().values()
    names = [actor["Name"] for actor in actors if actor["State"] != "DEAD"]
    return [name for name in names if name != private.COORDINATOR]


def wait_for_end() -> None:
    """Say which actors are left, when there are none or the patience ends."""
    until = time.time() + END_S
    while ours() and time.time() < until:
        time.sleep(0.1)
    say("ended", left=ours())


def main(address: str) -> None:
    """Obey one order after the other, until there are no more."""
    ray.init(address=address, log_to_driver=False)
    coordinator: Any = None
    say("ready")
    for line in sys.stdin:
        match line.split():
            case ["nodes", count]:
                wait_for_nodes(int(count))
            case ["watch", seconds]:
                watch_nodes(float(seconds))
            case ["look"]:
                anyio.run(look)
            case ["kill-broker"]:
                kill_broker()
            case ["coordinator"]:
                coordinator = start_coordinator()
                say("coordinator", requesters=ray.get(coordinator.requesters.remote()))
            case ["data", count]:
                wanted = [{"GPU": 4.0}] * int(count)
                request = coordinator.request_resources.remote(
                    requester_id="data", resources=wanted, expire_after_s=600
                )
                ray.get(request)
                say("data", requesters=ray.get(coordinator.requesters.remote()))
            case ["requesters"]:
                say("requesters", requesters=ray.get(coordinator.requesters.remote()))
            case ["no-coordinator"]:
                ray.get(coordinator.cancel_request.remote("data"))
                ray.kill(coordinator)
                say("no-coordinator")
            case ["end"]:
                wait_for_end()


if __name__ == "__main__":
    main(sys.argv[1])
