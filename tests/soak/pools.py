"""The pools of a soak, and a picture of one as plain values that can cross processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pool
from tests.soak.hosts import Wayward

SINGLE, GANG, KEPT = "single", "gang", "kept"
DRAIN_S = 6.0
START_TIMEOUT_S = 30.0
LEASE_S = 15.0
HEALTH = pool.HealthPolicy(period_s=1, timeout_s=2, failures=3, grace_s=2)
JUDGED_S = 15.0
"""Whoever is silent for so long has been judged: three polls, at both levels, and some slack."""
RESTART = pool.RestartPolicy(intensity=10_000, delay_s=0.2, delay_max_s=5)
"""A soak throws more faults than any pool is to bear; here it is to go on."""

Picture = dict[str, Any]


def make(name: str, folder: Path) -> pool.ReplicaPool:
    """Return one of the three pools, not yet opened."""
    shapes = {GANG: pool.ReplicaShape(devices=4, min_nodes=2)}
    return pool.ReplicaPool(
        name,
        shape=shapes.get(name, pool.ReplicaShape(devices=2)),
        host=Wayward,
        host_args=(folder,),
        health=HEALTH,
        restart=RESTART,
        drain=pool.DrainPolicy(timeout_s=DRAIN_S),
        spares=1 if name == GANG else 0,
        start_timeout_s=START_TIMEOUT_S,
        lease_s=LEASE_S,
        detached=name == KEPT,
    )


def picture(replicas: pool.ReplicaPool) -> Picture:
    """Return a pool as it shows itself now."""
    shown = replicas.snapshot()
    return {
        "desired": shown.desired,
        "spares": shown.spares,
        "most": replicas.most,
        "settled": shown.settled,
        "failed": shown.failed,
        "slots": [
            {
                "slot": slot.index,
                "role": str(slot.role),
                "rank": slot.rank,
                "reason": slot.reason,
                "generation": slot.member.generation if slot.member else None,
                "state": str(slot.member.state) if slot.member else None,
                "lingers": slot.member is not None and slot.member.ends_in_s is not None,
                "nodes": list(slot.member.nodes) if slot.member else [],
            }
            for slot in shown.slots
        ],
    }


def tell(event: pool.Event, shown: Picture) -> dict[str, Any]:
    """Return an event, with the pool as it was at that moment."""
    return {
        "what": "event",
        "at": event.at,
        "kind": str(event.kind),
        "slot": event.slot,
        "generation": event.generation,
        "facts": {name: str(fact) for name, fact in event.facts.items()},
        "picture": shown,
    }
