"""What may take how long until the driver starts: one table, the shortest first, pure.

A wait without an end is a job that burns its hours. Whoever waits for several things with a
deadline each must look at the shortest first, or it is never seen: so the rows are sorted, and
looked at in that order.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pool.errors import ConfigError

WHAT: dict[str, str] = {
    "canary_s": "sees the directory of the job, and is seen there",
    "call_s": "has called the head",
    "head_s": "has the head's Ray, with its GCS listening",
    "services_s": "has its services ready",
    "join_s": "has joined Ray",
}
"""What is to be so on each node by each deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds for each phase of the start, all counted from the start of the head's node program.

    Args:
        canary_s: Each node that has called sees the job's directory, and is seen in it.
        call_s: Each node has called the head.
        head_s: The head's Ray listens.
        services_s: The services have their quorum.
        join_s: The nodes have joined Ray.
        late_s: How long is waited for all nodes once `min_nodes` of them have joined.

    Raises:
        ConfigError: One is no positive number.
    """

    canary_s: float = 60.0
    call_s: float = 180.0
    head_s: float = 240.0
    services_s: float = 600.0
    join_s: float = 1800.0
    late_s: float = 60.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value < 1e9:
                raise ConfigError(
                    f"deadlines.{field.name} is {value}; give more than 0 seconds",
                    f"deadlines.{field.name}",
                )

    def rows(self) -> tuple[tuple[str, float], ...]:
        """Return the deadlines by name, in the order in which they come."""
        return tuple(sorted(((name, getattr(self, name)) for name in WHAT), key=lambda row: row[1]))
