"""What came of a call of `scale`, or of a roll."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """Say what a call of `scale` achieved.

    Args:
        requested: The size that was asked for; the largest one, of several.
        reached: How many members are ready.
        desired: The size that the pool now keeps up. After a call with one size it is that size,
            reached or not: the pool goes on trying.
        missing: Slot index to the reason why it has no ready member.
        superseded: Whether a later call, or `autosize`, gave the pool another size before this one
            was reached.
    """

    requested: int
    reached: int
    desired: int
    missing: dict[int, str] = field(default_factory=dict)
    superseded: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the requested size was reached."""
        return self.reached >= self.requested


@dataclass(frozen=True, slots=True)
class RollResult:
    """Say how far a roll came.

    Args:
        revision: The revision that it rolled to.
        ready: How many members were ready at the end.
        outdated: Slot index to reason, for each member that is still of another revision.
        superseded: Whether a later `roll` or `roll_back` changed the target meanwhile.
    """

    revision: int
    ready: int
    outdated: Mapping[int, str] = field(default_factory=dict)
    superseded: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every member is of the new revision."""
        return not self.outdated and not self.superseded
