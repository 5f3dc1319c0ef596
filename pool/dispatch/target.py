"""Whom a call goes to: an actor, and the member that answers for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pool.cluster.interface import Actor, Cluster
from pool.errors import MemberLost, MemberUnreachable, PoolFailed


class Counter(Protocol):
    """Count the calls that are under way on a member, so that its drain can wait for them."""

    @property
    def is_serving(self) -> bool:
        """Whether new work may be sent to it."""
        ...

    @property
    def is_beyond_reach(self) -> bool:
        """Whether no answer of it comes any more, whatever the cluster still says."""
        ...

    @property
    def in_flight(self) -> int:
        """How many calls of anybody are under way there."""
        ...

    def call_began(self) -> None:
        """Count a call that was sent."""

    def call_ended(self) -> None:
        """Count a call that came back."""

    def call_lost(self, cause: str, detail: str) -> None:
        """Hear that the member is dead."""


@dataclass(frozen=True, slots=True)
class Target:
    """Name one receiver of calls.

    Args:
        actor: The actor to call.
        member: Who counts the calls that are under way there.
        where: Which part of the member it is, as sentences begin: `host 1: `.
    """

    actor: Actor
    member: Counter
    where: str = ""


class Targets(Protocol):
    """Be a pool, as far as dispatch is concerned."""

    cluster: Cluster

    def targets(self, on: str) -> list[Target]:
        """List whom work can be sent to now."""
        ...

    def on_change(self, listener: Callable[[], object]) -> Callable[[], object]:
        """Call `listener` whenever that may be different; returns what ends it."""
        ...

    def spawn(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task until it ends or the pool is closed."""
        ...

    @property
    def failed(self) -> PoolFailed | None:
        """Why the pool gave up, if it did."""
        ...


async def call(
    cluster: Cluster,
    target: Target,
    work: Callable[..., Any] | str,
    args: tuple[Any, ...],
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Let a target do a piece of work, and count it while it is under way."""
    target.member.call_began()
    try:
        return await cluster.call(target.actor, "execute", work, args, environment)
    except MemberLost as error:
        if not isinstance(error, MemberUnreachable):
            target.member.call_lost(error.cause, f"{target.where}{error.detail}")
        raise
    finally:
        target.member.call_ended()
