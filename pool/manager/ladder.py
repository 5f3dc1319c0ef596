"""The way of one member out, rung by rung, under one deadline.

stop admitting → wait for work in flight → `shutdown()` hook → kill → death confirmed → group
removed. Each rung is tried whether or not the one before it succeeded; what went wrong is said in
the report and nowhere swallowed. The rungs that lead to "nothing is left" are shielded (INV-4); the
gentle ones before them can be cut short, by whoever is in a hurry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from pool.cluster.interface import Death, News
from pool.errors import CallTimeout, MemberLost
from pool.manager.hooks import Hooks
from pool.manager.member import Incarnation, InfoT
from pool.planning.drain import DrainPolicy, Ladder, Rung, child_budget, split_deadline


@dataclass(frozen=True, slots=True)
class MemberReport:
    """Say how far down the ladder a member had to go.

    Args:
        member: Its id.
        slot: The index of its slot.
        reason: Why it had to leave.
        rung: How far it had to go: `hook` when it, and all that it held, ended in good order;
            `kill` when something had to be killed; `gone` when it was dead or had never lived.
        took_s: Seconds from the first rung to nothing left.
        troubles: What went wrong on the way, a sentence each; empty for a clean end.
    """

    member: str
    slot: int
    reason: str
    rung: str
    took_s: float
    troubles: tuple[str, ...] = ()


@dataclass(eq=False, slots=True, weakref_slot=True)
class Descent:
    """Keep the time of one member's way down, and what went wrong on it."""

    reason: str
    ladder: Ladder
    began: float
    rung: str = "gone"
    troubles: list[str] = field(default_factory=list)
    first: Rung = Rung.WORK
    _at: Rung = field(default=Rung.WORK, init=False)
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope, init=False)

    @classmethod
    def begin(cls, reason: str, policy: DrainPolicy, deadline: float | None) -> Descent:
        """Begin a way down now, that ends at `deadline` or when the policy says.

        NB: its last rungs, kill and release, have floors of their own (`LEAST_KILL_S`,
        `LEAST_RELEASE_S`) and may end after the deadline: a leak would be worse (INV-4, INV-7).
        """
        now = anyio.current_time()
        budget_s = math.inf if deadline is None else deadline - now
        return cls(reason, split_deadline(policy, budget_s), now)

    def left_s(self, rung: Rung) -> float:
        """Return how many seconds a rung may take, from now."""
        if rung < self.first:
            return 0.0
        return self.ladder.left_s(rung, anyio.current_time() - self.began)

    @property
    def is_hurried(self) -> bool:
        """Whether no gentle rung is left to it."""
        return self.first >= Rung.KILL

    def skip_to(self, rung: Rung) -> None:
        """Leave out the rungs before this one, and cut short the one of them that runs now."""
        self.first = max(self.first, rung)
        if self._at < self.first:
            self._scope.cancel()

    @contextmanager
    def gently(self, rung: Rung, what: str) -> Iterator[None]:
        """Run a rung that may be cut short; if it was, say so."""
        self._at = rung
        with anyio.CancelScope() as self._scope:
            yield
        if self._scope.cancelled_caught:
            self.troubles.append(f"{what} was cut short")


async def let_work_end(hooks: Hooks[InfoT], member: Incarnation[InfoT], way: Descent) -> None:
    """Wait for the work in flight: the calls we sent, and what the member does by itself.

    Can be cancelled, and nothing but `restore_member` has to be done then.
    """
    budget_s = way.left_s(Rung.WORK)
    if not budget_s or member.actor is None:
        return
    try:
        with (
            way.gently(Rung.WORK, "the wait for work in flight"),
            anyio.move_on_after(budget_s) as scope,
        ):
            await member.until_idle()
            await hooks.drain_member(member.actor, child_budget(budget_s))
        if scope.cancelled_caught:
            way.troubles.append(f"work was still in flight after {budget_s:.1f} s")
    except MemberLost:
        pass  # Its lifeline says so as well, and to more effect.
    except CallTimeout as error:
        way.troubles.append(f"work was still in flight: {error}")
    except Exception as error:
        way.troubles.append(f"drain failed: {error!r}")


async def put_down(hooks: Hooks[InfoT], member: Incarnation[InfoT], way: Descent) -> MemberReport:
    """End the member and remove its reservation, whatever it takes.

    Shielded from cancellation; it ends by itself within the ladder's time. An event loop that is
    torn down under it, as by a second Ctrl-C, makes it go to the kill rung at once.

    Args:
        hooks: The manager's steps.
        member: The incarnation; its bring-up, if it still runs, is cancelled first.
        way: The deadline and the troubles so far.
    """
    with anyio.CancelScope(shield=True):
        try:
            await _descend(hooks, member, way)
        except anyio.get_cancelled_exc_class():
            # NB: a shield holds off anyio's cancellations, not those of asyncio itself. A loop that
            # is torn down cancels each task once that way, and then runs it to its end.
            way.skip_to(Rung.KILL)
            way.troubles.append("it was cancelled from outside, and cut short")
            await _descend(hooks, member, way)
    return MemberReport(
        member=member.identity.member,
        slot=member.identity.slot,
        reason=way.reason,
        rung=way.rung,
        took_s=anyio.current_time() - way.began,
        troubles=tuple(way.troubles),
    )


async def _descend(hooks: Hooks[InfoT], member: Incarnation[InfoT], way: Descent) -> None:
    member.bring_up.cancel()
    with anyio.move_on_after(LEAST_KILL_S if way.is_hurried else math.inf):
        await member.brought_up.wait()
    if member.actor is not None:
        if not member.dead.is_set():
            way.rung = "kill"
        await _shut_down(hooks, member, way)
        await _kill(hooks, member, way)
    await _release(hooks, member, way)


async def _shut_down(hooks: Hooks[InfoT], member: Incarnation[InfoT], way: Descent) -> None:
    """Run the hook, if there is somebody to run it and time for it."""
    budget_s = max(way.left_s(Rung.HOOK), way.left_s(Rung.TERM))
    if member.dead.is_set() or member.fault is not None or not member.has_opened or not budget_s:
        return
    assert member.actor is not None
    try:
        with (
            way.gently(Rung.HOOK, "its shutdown hook"),
            anyio.move_on_after(budget_s) as scope,
        ):
            troubles = await hooks.shutdown_member(member.actor, child_budget(budget_s))
            way.troubles.extend(troubles)
            way.rung = "kill" if troubles else "hook"
        if scope.cancelled_caught:
            way.troubles.append(f"its shutdown hook took longer than {budget_s:.1f} s")
    except MemberLost as error:
        way.troubles.append(f"it died in its shutdown hook: {error.detail}")
    except CallTimeout as error:
        way.troubles.append(f"its shutdown hook took too long: {error}")
    except Exception as error:
        way.troubles.append(f"its shutdown hook failed: {error!r}")


async def _kill(hooks: Hooks[InfoT], member: Incarnation[InfoT], way: Descent) -> None:
    assert member.actor is not None
    try:
        hooks.kill_member(member.actor, member.info)
    except Exception as error:
        way.troubles.append(f"it could not be killed: {error!r}")
    # NB: not the time that other rungs left over. A node that fell silent never confirms.
    limit_s = max(min(way.left_s(Rung.KILL), way.ladder.kill_s), LEAST_KILL_S)
    with anyio.move_on_after(limit_s) as scope:
        async with anyio.create_task_group() as tasks:
            if way.is_hurried and not member.dead.is_set():
                # The task that holds the lifeline may have been torn down with its loop.
                tasks.start_soon(_listen, hooks, member)
            await member.dead.wait()
            tasks.cancel_scope.cancel()
    if scope.cancelled_caught:
        way.troubles.append(f"its death was not confirmed within {limit_s:.1f} s")


async def _listen(hooks: Hooks[InfoT], member: Incarnation[InfoT]) -> None:
    """Hear of the member's death, if nobody else does."""
    assert member.actor is not None
    told: News | Death = News()
    while isinstance(told, News):
        told = await hooks.cluster.lifeline(member.actor, told.version)
    member.dead.set()


async def _release(hooks: Hooks[InfoT], member: Incarnation[InfoT], way: Descent) -> None:
    if member.reservation is None:
        return
    limit_s = max(way.left_s(Rung.RELEASE), LEAST_RELEASE_S)
    try:
        with anyio.fail_after(limit_s):
            await hooks.release(member.reservation)
    except Exception as error:
        way.troubles.append(f"its placement group could not be removed: {error!r}")


LEAST_KILL_S = 5.0
"""Death is confirmed in milliseconds; a node that fell silent is not waited for any longer."""
LEAST_RELEASE_S = 10.0
"""A group is removed even when the deadline has passed: anything else is a leak (INV-4)."""
