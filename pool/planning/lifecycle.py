"""The states of a member, as a table, and the story of one member's way through it.

Everything that decides which state may follow which stands in `TRANSITIONS`; callers ask the
predicates of `State` and never list states themselves. The obvious alternative, an `if` at each
place that changes a state, lets two places disagree.

Limits: a lifecycle holds no clock. Whoever moves it says what time it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from pool.errors import InvalidTransition

STORY_LENGTH = 32
"""How many transitions a story keeps: a member passes about seven, and more only when it flaps."""


class State(StrEnum):
    """Name the state of a member, from its first thought to its end."""

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    SUSPECT = "suspect"
    DRAINING = "draining"
    STOPPING = "stopping"
    GONE = "gone"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing of the member is left."""
        return self is State.GONE

    @property
    def is_coming(self) -> bool:
        """Whether the member is on its way to its first `ready`."""
        return self in _COMING

    @property
    def is_serving(self) -> bool:
        """Whether new work may be sent to the member."""
        return self is State.READY

    @property
    def is_up(self) -> bool:
        """Whether the member was ready and has not begun to leave."""
        return self in _UP

    @property
    def is_leaving(self) -> bool:
        """Whether the member is on its way out, but not yet gone."""
        return self in _LEAVING


_COMING = frozenset({State.PENDING, State.STARTING})
_UP = frozenset({State.READY, State.SUSPECT})
_LEAVING = frozenset({State.DRAINING, State.STOPPING})

TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.PENDING: frozenset({State.STARTING, State.STOPPING}),
        State.STARTING: frozenset({State.READY, State.STOPPING}),
        State.READY: frozenset({State.SUSPECT, State.DRAINING, State.STOPPING}),
        State.SUSPECT: frozenset({State.READY, State.DRAINING, State.STOPPING}),
        # A withdrawn notice puts a draining member back into service.
        State.DRAINING: frozenset({State.READY, State.STOPPING}),
        State.STOPPING: frozenset({State.GONE}),
        State.GONE: frozenset(),
    }
)
"""From each state, the states that may follow it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transition that happened: when (seconds, the pool's clock), from, to, and why."""

    at: float
    source: State
    target: State
    reason: str

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.source} -> {self.target}: {self.reason}"


class Lifecycle:
    """Hold one member's state, since when, and how it got there.

    Args:
        member: The member's id, for error messages.
        now: The time of its creation in seconds, on the pool's clock.
    """

    def __init__(self, member: str, now: float) -> None:
        self.member = member
        self.state = State.PENDING
        self.since = now
        self._story: deque[Step] = deque(maxlen=STORY_LENGTH)

    @property
    def why(self) -> str:
        """Why it is in its state; empty at the beginning."""
        return self._story[-1].reason if self._story else ""

    @property
    def story(self) -> tuple[Step, ...]:
        """The last transitions, oldest first."""
        return tuple(self._story)

    def advance(self, target: State, reason: str, now: float) -> Step:
        """Move to `target` and write the step into the story.

        Args:
            target: The state to enter.
            reason: Why, in a few words.
            now: Seconds, on the pool's clock.

        Returns:
            The step that was made.

        Raises:
            InvalidTransition: The table has no such edge. The story comes with it.
        """
        if target not in TRANSITIONS[self.state]:
            raise InvalidTransition(
                self.member, self.state, target, [str(step) for step in self._story]
            )
        step = Step(now, self.state, target, reason)
        self._story.append(step)
        self.state = target
        self.since = now
        return step
