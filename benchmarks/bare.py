"""The same tree by hand: what a gang of actors costs on Ray with nothing of ours.

Its actors import this module alone, so that they are as light as actors can be.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)


class Bare:
    """Do nothing, and say so."""

    async def pid(self) -> int:
        """Return the process id; the first answer is what "ready" means here."""
        return os.getpid()

    async def never(self) -> None:
        """Stay pending until this process ends."""
        await asyncio.Event().wait()

    async def check_health(self) -> None:
        """Be healthy."""


_make: Any = ray.remote
BareActor: Any = _make(Bare)


class BareGang:
    """Hold a placement group, with an actor pinned to each bundle's node.

    Several have a supervisor, an actor in the group. One bundle has one actor, in the group.

    Args:
        bundles: What each bundle holds.
    """

    def __init__(self, bundles: list[dict[str, float]]) -> None:
        self._bundles = bundles
        self.group: Any = None
        self.actors: list[Any] = []
        self.pids: list[int] = []

    async def build(self) -> None:
        """Make the group, start all its actors at once, and wait for the first reply of each."""
        strategy = "STRICT_PACK" if len(self._bundles) == 1 else "STRICT_SPREAD"
        group = self.group = placement_group(self._bundles, strategy=strategy)
        await group.ready()
        nodes = placement_group_table(group)["bundles_to_node_id"]
        inside = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
        pinned = [
            NodeAffinitySchedulingStrategy(nodes[index], soft=False)
            for index in range(len(nodes))
            if len(nodes) > 1
        ]
        self.actors = [
            BareActor.options(num_cpus=0, max_restarts=0, scheduling_strategy=strategy).remote()
            for strategy in (inside, *pinned)
        ]
        self.pids = list(await asyncio.gather(*(actor.pid.remote() for actor in self.actors)))

    def remove(self) -> None:
        """Remove the group and end the actors."""
        for actor in self.actors:
            ray.kill(actor)
        remove_placement_group(self.group)
