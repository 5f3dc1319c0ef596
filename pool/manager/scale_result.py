"""What came of a call of `scale`."""

from __future__ import annotations

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
        superseded: Whether a later call took over before this one was done.
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
