"""Whom a call goes to: an actor, and the member that answers for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from pool.cluster.interface import Actor, Cluster, Fault
from pool.errors import MemberLost, MemberUnreachable, PoolFailed


class Counter(Protocol):
    """Count the calls that are under way on a member, so that its drain can wait for them."""

    @property
    def is_serving(self) -> bool:
        """Whether new work may be sent to it."""
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

    def on_parted(self, listener: Callable[[Fault], object]) -> Callable[[], object]:
        """Call `listener` when no answer comes any more; returns what ends it."""
        ...


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

    name: str
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


@contextmanager
def within_reach(target: Target) -> Iterator[None]:
    """Do not wait in the block for an answer of a member that the pool has done with.

    Raises:
        MemberLost: No answer comes any more. Behind a cut link, the cluster may say so much later.
    """
    parted: list[Fault] = []
    with anyio.CancelScope() as scope:

        def leave(fault: Fault) -> None:
            parted.append(fault)
            scope.cancel()

        forget = target.member.on_parted(leave)
        try:
            yield
        finally:
            forget()
    if scope.cancelled_caught:
        [fault] = parted
        raise MemberLost(target.actor.identity.member, fault.cause, fault.detail)


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
        with within_reach(target):
            return await cluster.call(target.actor, "execute", work, args, environment)
    except MemberLost as error:
        if not isinstance(error, MemberUnreachable):
            target.member.call_lost(error.cause, f"{target.where}{error.detail}")
        raise
    finally:
        target.member.call_ended()
