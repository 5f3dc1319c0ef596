"""What is drawn from the seed: which fault, when, at whom, and for how long.

Only numbers are drawn, and always the same number of them, so that the sequence depends on the seed
alone. Whom a number means is found out when the fault is thrown: that depends on timing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Name a fault, or a thing that users do meanwhile."""

    REPLICA_KILLED = "replica actor killed"
    HOST_KILLED = "node host killed"
    RAYLET_KILLED = "raylet killed"
    RAYLET_ENDED = "raylet ended by SIGTERM"
    NODE_DRAINED = "node drained, then gone"
    STOPPED_BRIEFLY = "process stopped for a moment"
    STOPPED_LONG = "process stopped for long"
    HEALTH_HANGS = "health check hangs"
    START_FAILS = "start fails once"
    START_HANGS = "start hangs once"
    HOOK_HANGS = "shutdown hook hangs once"
    OWNER_KILLED = "owner of the detached pool killed"
    SCALED = "scaled"
    SCALE_CANCELLED = "scale cancelled"
    ROLLED = "rolled"


WEIGHTS = {
    Kind.REPLICA_KILLED: 4,
    Kind.HOST_KILLED: 4,
    Kind.RAYLET_KILLED: 2,
    Kind.RAYLET_ENDED: 2,
    Kind.NODE_DRAINED: 3,
    Kind.STOPPED_BRIEFLY: 3,
    Kind.STOPPED_LONG: 3,
    Kind.HEALTH_HANGS: 2,
    Kind.START_FAILS: 2,
    Kind.START_HANGS: 1,
    Kind.HOOK_HANGS: 2,
    Kind.OWNER_KILLED: 2,
    Kind.SCALED: 4,
    Kind.SCALE_CANCELLED: 2,
    Kind.ROLLED: 2,
}
"""How often each is drawn: what costs many worker processes, or minutes, comes less often."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Hold one draw.

    Args:
        gap_s: Seconds since the one before.
        kind: What happens.
        where: Which pool or node is meant, from 0 to less than 1.
        whom: Which of its processes.
        extent: How long, how large, or how soon.
    """

    gap_s: float
    kind: Kind
    where: float
    whom: float
    extent: float


def draws(seed: int, mean_gap_s: float) -> Iterator[Draw]:
    """Draw for ever; the same seed gives the same sequence."""
    chance = random.Random(seed)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        # Some come right after one another: two faults at once are what nobody thought of.
        gap_s = min(chance.expovariate(1 / mean_gap_s), 3 * mean_gap_s)
        [kind] = chance.choices(kinds, weights)
        yield Draw(gap_s, kind, chance.random(), chance.random(), chance.random())
