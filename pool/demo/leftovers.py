"""What a pool left in its cluster: asked of the cluster and the machine, not of the pool."""

from __future__ import annotations

import time

from pool.demo.footprint import Footprint, describe
from pool.demo.record import LeftBehind

VANISH_S = 5.0
"""How long the cluster's tables, and processes on their way out, may lag behind the pool."""
LOOK_AGAIN_S = 0.1


def look_behind(left: LeftBehind, footprint: Footprint) -> None:
    """Look at the whole cluster, which has nothing in it but what the demo's pool put there.

    Args:
        left: Where to write what was found.
        footprint: The processes that were ever seen.
    """
    until = time.monotonic() + VANISH_S
    while True:
        footprint.look()
        _look_once(left, footprint)
        found = (left.actors, left.placement_groups, left.processes)
        if not any(found) or time.monotonic() > until:
            return
        time.sleep(LOOK_AGAIN_S)


def _look_once(left: LeftBehind, footprint: Footprint) -> None:
    from ray.util import placement_group_table

    from pool.cluster.ray.private import actor_table

    actors = actor_table().values()
    left.actors = [f"{a['Name']} ({a['State']})" for a in actors if a["State"] != "DEAD"]
    left.placement_groups = [
        f"{group['name']} ({group['state']})"
        for group in placement_group_table().values()
        if group["state"] != "REMOVED"
    ]
    pids = {int(actor["Pid"]) for actor in actors if actor.get("Pid")}
    left.members_seen = len(pids)
    left.processes = [describe(process) for process in footprint.alive(pids)]
