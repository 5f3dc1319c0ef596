"""What the outside says about a node's future: a value, and nothing that asks for it.

The sources that ask are in `pool.notices`. The value stands down here because planners read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from pool.errors import ConfigError


class NoticeKind(StrEnum):
    """Name what is going to happen to the node."""

    PREEMPT = "preempt"
    MAINTENANCE = "maintenance"
    REBALANCE = "rebalance"
    WALLTIME = "walltime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Say that a node will go away.

    Args:
        kind: What is going to happen.
        deadline: When the node goes, in seconds since the epoch (UTC), so that it means the same
            on every machine. None where the source names no time.
        source: Who said so, for example `ray` or `file:/run/leave`.
        reason: The source's own words.
        advisory: Whether the node may well stay; such a notice is answered when there is room.
        node_id: Which node; empty means the node that the source runs on, or was asked about.
    """

    kind: NoticeKind
    deadline: float | None = None
    source: str = ""
    reason: str = ""
    advisory: bool = False
    node_id: str = ""

    def __post_init__(self) -> None:
        if self.deadline is not None and not math.isfinite(self.deadline):
            raise ConfigError(
                f"deadline is {self.deadline}; give seconds since the epoch, or None", "deadline"
            )

    def __str__(self) -> str:
        who = f" from {self.source}" if self.source else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.kind} notice{who}{why}"
