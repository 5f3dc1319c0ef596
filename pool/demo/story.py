"""What is done to the pool while it works, and what is written down of it.

Three steps: it grows, it loses a host, and it is told that it will lose a node. Each begins when a
part of the job is done and the pool has recovered from the step before; each ends when the pool is
whole again. Nothing is judged here: `checks.py` does that from what is written down.

Times are those of the pool's own events, and the moment just before a fault is brought about.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

import pool
from pool.demo.job import Job

SIZE = 2
GROWN = 3
GROW_AT, KILL_AT, NOTICE_AT = 0.1, 0.35, 0.6
STEP_TIMEOUT_S = 60.0
DEADLINE_S = 60.0
"""How long before a node goes its notice comes: what clouds give is between 25 and 120 seconds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Name what must not change in a member that is left alone: its actor and its hosts."""

    actor: str | None
    hosts: tuple[tuple[str, int], ...]


@dataclass(slots=True, kw_only=True)
class Step:
    """Hold what was done to the pool, and what came of it.

    Args:
        name: `grow`, `kill` or `notice`.
        what: What was done, in words.
        at_share: The part of the planned job that was done by then.
        at: When it was done, in UNIX seconds.
        results_by_then: How many results of the job there were by then.
        victims: Members that it was about.
        before: The members that were ready then.
        after: The members that were ready when the pool was whole again.
        detected_at: When the pool knew.
        ready_at: When the pool was whole again.
        left_at: When nothing was left of a member that had to go.
        results: How many results of the job came from then until the pool was whole again.
        cause: What the pool took for the cause, of a fault.
        drained_at: When the pool began to drain a member that had to go.
        rung: How far down the ladder that member had to go.
        troubles: What went wrong on its way.
    """

    name: str
    what: str
    at_share: float
    at: float
    results_by_then: int = 0
    victims: tuple[str, ...]
    before: Mapping[str, Standing]
    after: Mapping[str, Standing] = field(default_factory=dict)
    detected_at: float | None = None
    ready_at: float | None = None
    left_at: float | None = None
    results: int = 0
    cause: str = ""
    drained_at: float | None = None
    rung: str = ""
    troubles: str = ""

    @property
    def untouched(self) -> tuple[str, ...]:
        """The members that were to stay as they were, and did."""
        return tuple(m for m in self._others() if self.after.get(m) == self.before[m])

    @property
    def touched(self) -> tuple[str, ...]:
        """The members that were to stay as they were, and did not."""
        return tuple(m for m in self._others() if self.after.get(m) != self.before[m])

    def _others(self) -> list[str]:
        return [member for member in self.before if member not in self.victims]

    def after_s(self, at: float | None) -> float | None:
        """Return the seconds from the step until a time, if there is one."""
        return None if at is None else at - self.at


class Provider:
    """Play the cloud's part: say which nodes will be taken back."""

    def __init__(self) -> None:
        self._notices: dict[str, pool.Notice] = {}

    def take_back(self, node_id: str, in_s: float) -> pool.Notice:
        """Give notice that a node goes away in that many seconds."""
        notice = pool.Notice(
            kind=pool.NoticeKind.PREEMPT,
            deadline=time.time() + in_s,
            source="provider",
            reason="this node is taken back",
        )
        self._notices[node_id] = notice
        return notice

    async def ask(self, node_ids: Sequence[str]) -> Mapping[str, pool.Notice]:
        """Return the notices that there are for these nodes."""
        return {node: self._notices[node] for node in node_ids if node in self._notices}


class Chronicle:
    """Wait for events of a pool, without missing one.

    Args:
        replicas: The pool whose events are followed from now on.
    """

    def __init__(self, replicas: pool.ReplicaPool) -> None:
        self._events: list[pool.Event] = []
        self._more = anyio.Event()
        replicas.follow(self._append)

    def _append(self, event: pool.Event) -> None:
        self._events.append(event)
        self._more.set()

    def mark(self) -> int:
        """Return where the chronicle is now, to wait for what comes after."""
        return len(self._events)

    async def first(self, since: int, matches: Callable[[pool.Event], bool]) -> pool.Event:
        """Return the first event after a mark that matches, waiting for it if need be."""
        while True:
            for event in self._events[since:]:
                if matches(event):
                    return event
            since = len(self._events)
            self._more = anyio.Event()
            await self._more.wait()

    async def state(self, since: int, slot: int | None, state: pool.State) -> pool.Event:
        """Return the first event after a mark in which a slot's member enters a state."""
        return await self.first(
            since,
            lambda event: (
                event.kind is pool.EventKind.MEMBER_STATE
                and event.slot == slot
                and event.facts["state"] == state
            ),
        )

    async def kind(self, since: int, kind: pool.EventKind, slot: int | None = None) -> pool.Event:
        """Return the first event after a mark of this kind, and in this slot if one is given."""
        return await self.first(
            since, lambda event: event.kind is kind and slot in (None, event.slot)
        )


class Story:
    """Do the three steps, one after the other.

    Args:
        replicas: The pool, open and ready.
        job: What it works on.
        provider: Who gives notice.
        tell: Is told each step, in words, when it is done.
    """

    def __init__(
        self,
        replicas: pool.ReplicaPool,
        job: Job,
        provider: Provider,
        tell: Callable[[str], None],
    ) -> None:
        self._pool = replicas
        self._job = job
        self._provider = provider
        self._tell = tell
        self._chronicle = Chronicle(replicas)
        self.steps: list[Step] = []

    async def run(self) -> None:
        """Do them all, and wait until the pool has nothing more to do.

        Raises:
            TimeoutError: The pool did not recover in time. What was seen is in `steps`.
        """
        for share, step in (
            (GROW_AT, self._grow),
            (KILL_AT, self._kill),
            (NOTICE_AT, self._give_notice),
        ):
            await self._job.until(share)
            try:
                with anyio.fail_after(STEP_TIMEOUT_S):
                    await step()
                    await self._pool.wait_settled()
            except TimeoutError:
                done = self.steps[-1].what
                raise TimeoutError(
                    f"{STEP_TIMEOUT_S:g} s after this the pool was not whole again: {done}; "
                    f"it says: {_reasons(self._pool.snapshot())}"
                ) from None
            finally:
                self._end()

    async def _grow(self) -> None:
        mark = self._chronicle.mark()
        step = self._begin("grow", f"scale({GROWN}), from {SIZE} replicas")
        await self._pool.scale(GROWN, timeout_s=None)
        step.detected_at = (await self._chronicle.kind(mark, pool.EventKind.POOL_SCALED)).at
        opened = await self._chronicle.kind(mark, pool.EventKind.SLOT_OPENED)
        ready = await self._chronicle.state(mark, opened.slot, pool.State.READY)
        step.ready_at = ready.at

    async def _kill(self) -> None:
        victim = self._pool[1]
        assert victim.info is not None
        host = victim.info.hosts[-1]
        mark = self._chronicle.mark()
        what = f"kill -9 {host.pid}, the node host {host.index} of {victim.id}"
        step = self._begin("kill", what, victim.id)
        os.kill(host.pid, signal.SIGKILL)
        fault = await self._chronicle.kind(mark, pool.EventKind.MEMBER_FAULT, victim.slot)
        step.detected_at = fault.at
        step.cause = str(fault.facts["cause"])
        gone = await self._chronicle.state(mark, victim.slot, pool.State.GONE)
        step.left_at = gone.at
        step.ready_at = (await self._chronicle.state(mark, victim.slot, pool.State.READY)).at

    async def _give_notice(self) -> None:
        victim = self._pool[0]
        node = victim.nodes[0]
        mark = self._chronicle.mark()
        what = f"notice that node {node[:6]} of {victim.id} goes in {DEADLINE_S:g} s"
        step = self._begin("notice", what, victim.id)
        self._provider.take_back(node, DEADLINE_S)
        seen = await self._chronicle.kind(mark, pool.EventKind.MEMBER_NOTICE, victim.slot)
        step.detected_at = seen.at
        # A replacement opens a slot of its own; nothing else does while nobody scales the pool.
        opened = await self._chronicle.kind(mark, pool.EventKind.SLOT_OPENED)
        step.ready_at = (await self._chronicle.state(mark, opened.slot, pool.State.READY)).at
        drained = await self._chronicle.state(mark, victim.slot, pool.State.DRAINING)
        gone = await self._chronicle.kind(mark, pool.EventKind.MEMBER_DRAINED, victim.slot)
        step.left_at = gone.at
        step.drained_at = drained.at
        step.rung = str(gone.facts["rung"])
        step.troubles = "; ".join(gone.facts.get("troubles", ()))

    def _begin(self, name: str, what: str, *victims: str) -> Step:
        step = Step(
            name=name,
            what=what,
            at_share=self._job.share,
            results_by_then=self._job.received,
            victims=victims,
            before=standings(self._pool.snapshot()),
            at=time.time(),
        )
        self.steps.append(step)
        self._tell(what)
        return step

    def _end(self) -> None:
        step = self.steps[-1]
        step.after = standings(self._pool.snapshot())
        step.results = self._job.received - step.results_by_then


def standings(snapshot: pool.PoolSnapshot) -> dict[str, Standing]:
    """Return what each ready member consists of."""
    return {
        member.id: Standing(
            member.actor_id, tuple((host.node_id, host.pid) for host in member.info.hosts)
        )
        for member in (slot.member for slot in snapshot.slots)
        if member is not None and member.state.is_serving
    }


def _reasons(snapshot: pool.PoolSnapshot) -> str:
    reasons = [f"slot {slot.index}: {slot.reason}" for slot in snapshot.slots if slot.reason]
    return "; ".join(reasons) or "nothing"
