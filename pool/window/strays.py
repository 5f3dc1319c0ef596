"""Find documents that nobody looks after: those of pools that show no picture.

A picture says whose a pool is, and how old; what has none is left over from a pool that closed, or
never got so far: by a process that was killed between two documents, or that asked something of a
pool which was gone by then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pool.window.keys import Key, unpack

PICTURE = "picture"
EVENTS = "events."


def strays(found: Mapping[str, bytes], before: float) -> list[Key]:
    """Return the pools that have documents and no picture, as keys without a part.

    A picture that cannot be read is one: it may be of another version of this package.

    Args:
        found: The documents, by their keys.
        before: Only pools whose last event, where there are any, is older than this, in UNIX
            seconds.
    """
    last: dict[tuple[str, str], float] = {}
    shown = set()
    for text, packed in found.items():
        key = Key.parse(text)
        if key is None:
            continue
        whose = key.pool, key.instance
        if key.part == PICTURE:
            shown.add(whose)
        at = _last_event(packed) if key.part.startswith(EVENTS) else -math.inf
        last[whose] = max(at, last.get(whose, -math.inf))
    return [Key(*whose) for whose, at in last.items() if whose not in shown and at < before]


def _last_event(packed: bytes) -> float:
    """Return when the last event of a document was; long ago for what is none."""
    events = (unpack(packed) or {}).get("events")
    last = events[-1] if isinstance(events, list) and events else None
    at = last.get("at") if isinstance(last, dict) else None
    return at if isinstance(at, float) else -math.inf
