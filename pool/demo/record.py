"""What is known of one run of the demo, however far it came."""

from __future__ import annotations

from dataclasses import dataclass, field

from pool.demo.corpus import Census
from pool.demo.story import Step


@dataclass(slots=True)
class LeftBehind:
    """Hold what was found at the end, as text. None means that nobody could look.

    Args:
        actors: Actors in the cluster that are not dead, when the pool was closed.
        placement_groups: Likewise, groups that are not removed.
        processes: Processes of the pool's members that still ran then.
        members_seen: How many member processes there had been.
        after_cluster: Processes that still ran when the cluster was shut down, too.
        processes_seen: How many processes there had been, the cluster's own with them.
    """

    actors: list[str] | None = None
    placement_groups: list[str] | None = None
    processes: list[str] | None = None
    members_seen: int = 0
    after_cluster: list[str] | None = None
    processes_seen: int = 0


@dataclass(slots=True)
class Record:
    """Hold what happened.

    Args:
        error: What ended the demo early.
        took_s: Seconds by phase.
        serial: The serial result.
        passes: The pool's result, of each pass.
        items_sent: Items that were handed to the map.
        results: Results that came back.
        results_by_then: Results that had come when the pool had recovered from the last step;
            None when it did not come to that.
        steps: What was done to the pool.
        left_behind: What was found at the end.
    """

    error: str | None = None
    took_s: dict[str, float] = field(default_factory=dict)
    serial: Census = field(default_factory=dict)
    passes: list[Census] = field(default_factory=list)
    items_sent: int = 0
    results: int = 0
    results_by_then: int | None = None
    steps: list[Step] = field(default_factory=list)
    left_behind: LeftBehind = field(default_factory=LeftBehind)
