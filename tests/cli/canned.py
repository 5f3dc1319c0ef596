"""A cluster that is not there: what its pools showed last, and what its tables hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pool.cluster.interface import Actor, Found, Identity, Observer, Reservation
from pool.errors import SourceUnavailable
from pool.planning.resources import Resources
from pool.planning.topology import Node, Topology
from pool.window.keys import Key, pack

NOW = 1_700_000_000.0
DEAD = "driver 02000000 on host-b pid 4711"
ALIVE = "driver 01000000 on host-a pid 815"


def host(index: int, node: str, **more: Any) -> dict[str, Any]:
    number = int(node.removeprefix("node"))
    bundle = {"GPU": 4.0, "CPU": 8.0, "memory": 64 * 2.0**30}
    address, pid = f"10.0.0.{number}", 1000 + number
    where = {"index": index, "node_id": node, "address": address, "pid": pid}
    return {**where, "bundle": bundle, **more}


def member(slot: int, state: str, age_s: float, **more: Any) -> dict[str, Any]:
    return {
        "id": f"rollout/{slot}.1",
        "generation": 1,
        "state": state,
        "age_s": age_s,
        "actor_id": f"a{slot}",
        "nodes": [f"node{slot}"],
        "in_flight": 0,
        "notices": [],
        "health": "",
        **more,
    }


def slot(index: int, rank: int | None, who: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    role = "holder" if rank is not None else "retiring"
    return {"index": index, "role": role, "rank": rank, "reason": "", "member": who, **more}


SERVER = {
    "name": "server",
    "state": "ready",
    "pid": 4242,
    "ports": {"http": 8000},
    "log": "/tmp/logs/server.log",
}
RANKS = [{"rank": n, "pid": 5000 + n, "devices": {"GPU": [str(n)]}} for n in range(2)]

ROLLOUT = {
    "version": 1,
    "pool": "rollout",
    "instance": "1f2e3d4c",
    "kind": "ReplicaPool",
    "owner": ALIVE,
    "published_at": NOW - 0.4,
    "period_s": 5.0,
    "most": 5,
    "restart": {
        "intensity": 5,
        "period_s": 600,
        "budgets": {"preemption": None, "node_lost": 3, "verdict": 0},
    },
    "snapshot": {
        "name": "rollout",
        "desired": 4,
        "ready": 2,
        "revision": 1,
        "roll": "under way to revision 1, 1 outdated",
        "settled": False,
        "failed": None,
        "restarts": {"crash": 2, "node_lost": 4, "preemption": 1},
        "budgets": [
            {"cause": "shared", "used": 2, "limit": 5, "period_s": 600},
            {"cause": "node_lost", "used": 4, "limit": 3, "period_s": 600},
            {"cause": "verdict", "used": 0, "limit": 0, "period_s": 600},
        ],
        "slots": [
            slot(
                0,
                0,
                member(
                    0,
                    "ready",
                    3725,
                    why="it started",
                    in_flight=2,
                    info={"hosts": [host(0, "node0", processes=[SERVER], ranks=RANKS)]},
                ),
            ),
            slot(
                1,
                1,
                member(
                    1,
                    "suspect",
                    7.5,
                    why="no answer within 2 s",
                    health="no answer within 2 s",
                    info={"hosts": [host(0, "node1"), host(1, "node2")]},
                ),
            ),
            slot(
                2,
                2,
                member(2, "pending", 42, why="", nodes=[]),
                reason="waits for 4 GPU; the most that is free on one node is 2 GPU",
            ),
            slot(3, 3, None, reason="its restart is planned; last failure: crash: it was killed"),
            slot(
                5,
                None,
                member(
                    5,
                    "draining",
                    12,
                    why="its node goes away",
                    notices=[{"node_id": "node5", "text": "preemption of node5", "left_s": 61.0}],
                ),
            ),
        ],
    },
}

EVAL = {
    "version": 1,
    "pool": "eval",
    "instance": "aa11bb22",
    "kind": "ReplicaPool",
    "owner": DEAD,
    "detached": True,
    "restart": {"intensity": 5, "period_s": 600},
    "published_at": NOW - 75.0,
    "period_s": 5.0,
    "snapshot": {
        "name": "eval",
        "desired": 1,
        "ready": 1,
        "budgets": [{"cause": "shared", "used": 0, "limit": 5, "period_s": 600}],
        "settled": True,
        "failed": None,
        "slots": [slot(0, 0, member(0, "ready", 600, why="it started"))],
    },
}


def event(kind: str, ago_s: float, slot: int | None = None, **facts: Any) -> dict[str, Any]:
    generation = None if slot is None else 1
    return {"kind": kind, "at": NOW - ago_s, "slot": slot, "generation": generation, "facts": facts}


EVENTS = [
    event("pool_opened", 4000, instance="1f2e3d4c", epoch=1),
    event("member_state", 3800, 0, state="starting", reason="its reservation is ready"),
    event("member_state", 3725, 0, state="ready", reason="it started"),
    event("member_fault", 60, 3, cause="crash", reason="it was killed"),
    event("restart_planned", 60, 3, in_s=61.0, reason="crash 2 of 5"),
    event("no such kind", 50),
]


def found(pool: str, instance: str, level: str = "replica", *, group: bool = True) -> Found:
    identity = Identity(pool=pool, instance=instance, slot=0, generation=1, level=level)
    held = Reservation("g", ("node0",), (Resources({"GPU": 4}),)) if group else None
    return Found(identity, Actor("a", identity), held, detached=True)


class Canned(Observer):
    """Show pools that are not there."""

    def __init__(self) -> None:
        parts = {
            "picture": ROLLOUT,
            "events.00000000": {"version": 1, "first": 0, "events": EVENTS},
        }
        self.values = {str(Key("rollout", "1f2e3d4c", part)): pack(v) for part, v in parts.items()}
        self.values[str(Key("eval", "aa11bb22", "picture"))] = pack(EVAL)
        self.tables = [
            found("rollout", "1f2e3d4c"),
            found("eval", "aa11bb22"),
            found("eval", "keeper", "keeper", group=False),
            found("older", "cc33dd44"),
        ]
        self.is_away = False

    def _check(self) -> None:
        if self.is_away:
            raise SourceUnavailable("Ray's GCS did not answer: RpcError('Deadline Exceeded')")

    async def topology(self) -> Topology:
        total = Resources({"GPU": 8, "CPU": 96})
        held = {"pool rollout": Resources({"GPU": 4})}
        left = Resources({"GPU": 4, "CPU": 96})
        names = [("a", total, {}), ("b", left, held)]
        return Topology(
            tuple(
                Node(
                    node_id=f"node-{name}",
                    address=f"10.0.0.{n}",
                    total=total,
                    available=free,
                    held_by=held,
                )
                for n, (name, free, held) in enumerate(names)
            )
        )

    async def draining(self) -> Mapping[str, float | None]:
        return {}

    async def inventory(self, pool: str | None = None, instance: str | None = None) -> list[Found]:
        self._check()
        return [one for one in self.tables if one.identity.is_of(pool, instance)]

    async def is_gone(self, process: str) -> bool:
        return process == DEAD

    async def publish(self, values: Mapping[str, bytes]) -> None:
        self.values.update(values)

    async def published(self, prefix: str) -> Mapping[str, bytes]:
        self._check()
        return {key: value for key, value in self.values.items() if key.startswith(prefix)}

    async def withdraw(self, prefix: str) -> None:
        for key in await self.published(prefix):
            del self.values[key]

    def unix_time(self) -> float:
        return NOW
