"""Which member each key belongs to: the one that took it first, for as long as it serves.

Why not a hash over the members: whenever one comes, it would take keys away from members that hold
what belongs to them, such as a cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

KEYS_KEPT = 100_000
"""Beyond so many, the key that was not used for longest is forgotten."""


class Homes:
    """Remember the actor of each key."""

    def __init__(self) -> None:
        self._homes: OrderedDict[Hashable, str] = OrderedDict()

    def of(self, key: Hashable) -> str | None:
        """Return the id of the actor that a key belongs to; None while it belongs to none."""
        home = self._homes.get(key)
        if home is not None:
            self._homes.move_to_end(key)
        return home

    def settle(self, key: Hashable, actor: str) -> None:
        """Let a key belong to an actor from now on."""
        self._homes[key] = actor
        self._homes.move_to_end(key)
        if len(self._homes) > KEYS_KEPT:
            self._homes.popitem(last=False)
