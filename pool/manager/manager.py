"""`ResourcePoolManager`: keep a pool at its size, whatever happens to its members.

One loop observes, plans and acts. The plan comes from pure functions (`pool.planning`), what is
done with it stands in `bring_up.py` and `ladder.py`, and every event, be it a death, a notice, a
verdict or a new size, does nothing but write down what was seen and wake the loop. So there is one
code path for scaling, replacing, draining and closing, and an event that is lost costs time only.

The manager is the same in a driver, in an actor, and in a simulation: it knows the world by
`pool.cluster.interface` alone, and its clock is its event loop's.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Self

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from pool.cluster.interface import Actor, Cluster, Death, Fault, Identity, News
from pool.errors import ConfigError, PoolClosed, PoolFailed, SizeUnreachable, SourceUnavailable
from pool.manager.bring_up import bring_up, fault_of
from pool.manager.events import Event, EventKind, EventLog
from pool.manager.hooks import Hooks
from pool.manager.ladder import Descent, MemberReport, let_work_end, put_down
from pool.manager.member import Incarnation, InfoT, Member, Slot, by_rank
from pool.manager.pulse import Pulse
from pool.manager.snapshot import MemberSnapshot, NoticeSnapshot, PoolSnapshot, SlotSnapshot
from pool.notices.source import ClusterNoticeSource
from pool.planning.drain import DrainPolicy
from pool.planning.health import HealthPolicy, Verdict
from pool.planning.lifecycle import Lifecycle, State
from pool.planning.notice import Notice, NoticeKind
from pool.planning.reconcile import Action, Goal, Plan, Role, SlotView, Verb, reconcile
from pool.planning.restart import Cause, Failure, GiveUp, RestartPolicy, plan_restart, prune
from pool.planning.sizes import largest_reachable, valid_sizes

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,99}")
REPORTS_KEPT = 1000
CLOSE_MARGIN_S = 15.0
"""What closing may take beyond the ladder: the last rungs run even when the deadline has passed."""
VERIFY_S = 5.0
"""How long the cluster's tables may lag behind the lifelines before what they list is a leftover."""
VERIFY_AGAIN_S = 0.05
NOTICE_PATIENCE_S = 120.0
"""How long a member with a notice without a deadline may wait for its replacement."""


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


class ResourcePoolManager(Hooks[InfoT], Generic[InfoT]):
    """Keep a pool of actors at its desired size: start, poll, replace, drain and reap them.

    Subclass it and give `create_member`; the other steps of `Hooks` have defaults. Use it as an
    async context manager: on every way out of the block its members are drained and nothing of the
    pool is left (INV-4).

    Args:
        name: The pool's name: letters, digits, `_ . / -`, up to 100 of them.
        cluster: The world to work in.
        health: How members are polled, and when one counts as failed.
        restart: How often, and how soon, a failed member is started again.
        drain: How long members may take to leave.
        surge: How many members more than desired may live while replacements come first; 0 saves
            the resources, and a member that gets a notice leaves before its successor starts.
        start_timeout_s: Seconds from a member's actor to ready.
        notices: Who is asked whether a node will go away.
        instance: A random word that tells pools of one name apart; made when left out.

    Raises:
        ConfigError: A value cannot be right. Nothing was created.
    """

    def __init__(
        self,
        name: str,
        *,
        cluster: Cluster,
        health: HealthPolicy | None = None,
        restart: RestartPolicy | None = None,
        drain: DrainPolicy | None = None,
        surge: int = 1,
        start_timeout_s: float = 600.0,
        notices: Sequence[ClusterNoticeSource] = (),
        instance: str | None = None,
    ) -> None:
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            raise ConfigError(
                f"the pool's name is {name!r}; give 1 to 100 letters, digits or any of _ . / -, "
                "beginning with a letter or digit",
                "name",
            )
        if not start_timeout_s > 0:
            raise ConfigError(
                f"start_timeout_s is {start_timeout_s!r}; give more than 0 seconds",
                "start_timeout_s",
            )
        self.name = name
        self.cluster = cluster
        self.instance = instance or secrets.token_hex(4)
        self.health = health or HealthPolicy()
        self.restart = restart or RestartPolicy()
        self.drain_policy = drain or DrainPolicy()
        self.start_timeout_s = start_timeout_s
        self._sources = tuple(notices)
        self._goal = Goal(desired=0, surge=surge, ladder_s=self.drain_policy.timeout_s)
        self._slots: dict[int, Slot[InfoT]] = {}
        self._failures: tuple[Failure, ...] = ()
        self._failed: PoolFailed | None = None
        self._plan = Plan()
        self._reports: deque[MemberReport] = deque(maxlen=REPORTS_KEPT)
        self._tasks: TaskGroup | None = None
        self._closing_by: float | None = None
        self._scaling = object()
        self._woken = anyio.Event()
        self._changed = anyio.Event()
        self._pulse = Pulse(self.health)
        self.polled_at = time.monotonic()
        self.emit = EventLog(name, cluster.unix_time)

    # -- opening and closing ------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise PoolClosed(f"pool {self.name!r} was opened before; make a new one")
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._reconcile_forever)
        self._tasks.start_soon(self._poll_forever)
        for source in self._sources:
            self._tasks.start_soon(self._ask_forever, source)
        self.emit(EventKind.POOL_OPENED, instance=self.instance)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._tasks is not None
        try:
            # Work in flight is waited for only when the block ended well.
            await self._close(hurry=error is not None)
        finally:
            self._tasks.cancel_scope.cancel()
            handled = await self._tasks.__aexit__(kind, error, traceback)
        return handled

    async def _close(self, *, hurry: bool) -> None:
        """Drain every member; shielded, so that a cancellation cannot leave anything (INV-4)."""
        now = anyio.current_time()
        policy = self.drain_policy
        limit_s = policy.timeout_s * (1 - policy.work_share if hurry else 1)
        self._closing_by = now + limit_s
        self._set_desired(0, "the pool closes")
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(limit_s + CLOSE_MARGIN_S):
                await self._until(lambda: not self._slots)
            for slot in list(self._slots.values()):
                # Only a bug, or a cluster that does not answer, can bring us here.
                if slot.incarnation is not None:
                    self.emit(EventKind.LEFTOVER, slot.index, state=slot.incarnation.state)
                    await put_down(self, slot.incarnation, self._descent("the pool closes"))
            for left in await self._leftovers():
                self.emit(EventKind.LEFTOVER, what=left)
        self.emit(EventKind.POOL_CLOSED)

    async def _leftovers(self) -> list[str]:
        """Ask the cluster until nothing of this pool is left there, or the patience ends."""
        with anyio.move_on_after(VERIFY_S):
            while left := await self.cluster.leftovers(self.name, self.instance):
                await anyio.sleep(VERIFY_AGAIN_S)
            return []
        return left

    # -- what users ask for -------------------------------------------------------------------

    async def scale(
        self, size: int | Iterable[int], *, timeout_s: float | None = 600.0
    ) -> ScaleResult:
        """Bring the pool to a size, and wait until it is there.

        Growing, shrinking and replacing touch no other member (INV-3).

        Args:
            size: How many members. Several sizes mean "the largest of these that can be had": when
                the time is up the pool settles at the largest one reached, and gives back the rest.
            timeout_s: Seconds to wait; None waits for ever.

        Returns:
            What was reached, with the reason for each slot that is missing. With a single size
            fewer may have been reached; the pool goes on trying.

        Raises:
            ConfigError: A size is no whole number, is negative, or is 0 among several.
            InfeasibleError: The cluster could never hold any of these sizes; nothing was created.
            SizeUnreachable: The time is up, or the pool gave up, and none of several sizes was
                reached, or nothing of a single one. The pool is back at the size it had before.
            PoolClosed: The pool is not open.

        Cancelling it leaves the new size in force.
        """
        self._check_open()
        sizes = valid_sizes(size)
        before = self._goal.desired
        sizes = await self.check_size(sizes)
        target = sizes[-1]
        ticket = self._scaling = object()
        self._failed = None
        for slot in self._slots.values():
            slot.given_up = None
        self._set_desired(target, f"scale({size})")
        with anyio.move_on_after(math.inf if timeout_s is None else timeout_s):
            await self._until(
                lambda: self._scaling is not ticket or self._is_at(target) or self._is_hopeless()
            )
        reached = self._ready()
        missing = self._missing()
        if self._scaling is not ticket:
            return ScaleResult(target, reached, self._goal.desired, missing, superseded=True)
        if self._is_at(target):
            return ScaleResult(target, reached, target)
        if isinstance(size, int):
            if reached or not target:
                return ScaleResult(target, reached, target, missing)
            settled = None
        else:
            settled = largest_reachable(sizes, reached)
        self._set_desired(before if settled is None else settled, "that many could be had")
        if settled is None:
            raise SizeUnreachable(self.name, target, sizes, reached, missing) from self._failed
        await self._until(lambda: self._is_at(self._goal.desired) or self._is_hopeless())
        return ScaleResult(target, self._ready(), settled, missing)

    async def drain(self, *, timeout_s: float | None = None) -> tuple[MemberReport, ...]:
        """Scale to nothing, and report for each member how far down the ladder it had to go."""
        known = set(self._reports)
        await self.scale(0, timeout_s=timeout_s)
        return tuple(report for report in self._reports if report not in known)

    @property
    def desired(self) -> int:
        """The size that the pool is meant to have."""
        return self._goal.desired

    @property
    def failed(self) -> PoolFailed | None:
        """Why the pool gave up; None while it has not. The next `scale` starts afresh."""
        return self._failed

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failures that the restart policy still remembers, oldest first."""
        return self._failures

    @property
    def reports(self) -> tuple[MemberReport, ...]:
        """How the last members left, oldest first."""
        return tuple(self._reports)

    def members(self, *, serving: bool = False) -> list[Member[InfoT]]:
        """List the members as they are now, by rank; with `serving`, those that take work."""
        now = anyio.current_time()
        pictures = (slot.picture(now) for slot in by_rank(list(self._slots.values())))
        return [
            member
            for member in pictures
            if member is not None
            and (not serving or (member.state.is_serving and member.rank is not None))
        ]

    def handles(self) -> list[Actor]:
        """List the actors of the members that take work, by rank."""
        return [member.actor for member in self.members(serving=True) if member.actor is not None]

    def __getitem__(self, rank: int) -> Member[InfoT]:
        """Return the member with this rank.

        Raises:
            LookupError: No member has it now.
        """
        now = anyio.current_time()
        for slot in self._slots.values():
            if slot.rank == rank and (member := slot.picture(now)) is not None:
                return member
        raise LookupError(f"pool {self.name!r} has no member with rank {rank} now")

    def snapshot(self) -> PoolSnapshot:
        """Return the pool as it is now, with the reason for each slot that is not ready."""
        now = anyio.current_time()
        return PoolSnapshot(
            name=self.name,
            desired=self._goal.desired,
            ready=self._ready(),
            settled=self._plan.is_settled and self._is_at(self._goal.desired),
            failed=None if self._failed is None else str(self._failed),
            slots=tuple(self._picture(slot, now) for slot in by_rank(list(self._slots.values()))),
            restarts=dict(Counter(str(failure.cause) for failure in self._failures)),
        )

    def events(self) -> tuple[Event, ...]:
        """Return the last events, oldest first."""
        return self.emit.kept

    def follow(self, follower: Callable[[Event], None]) -> Callable[[], None]:
        """Call `follower` with each event from now on; returns a function that ends it."""
        return self.emit.follow(follower)

    async def wait_settled(self, timeout_s: float | None = None) -> None:
        """Wait until the pool is at its size, with nothing to do and nothing to wait for.

        Raises:
            PoolFailed: The pool gave up.
            TimeoutError: It did not settle within `timeout_s` seconds.
        """
        with anyio.fail_after(timeout_s):
            await self._until(lambda: self._failed is not None or self.snapshot().settled)
        if self._failed is not None:
            raise self._failed

    async def changed(self) -> None:
        """Wait until something about the pool changes."""
        await self._changed.wait()

    def find(self, member_id: str) -> Incarnation[InfoT] | None:
        """Return the manager's record of a member that is there, for those that count its calls."""
        for slot in self._slots.values():
            if slot.incarnation is not None and slot.incarnation.identity.member == member_id:
                return slot.incarnation
        return None

    # -- observe, plan, act -------------------------------------------------------------------

    async def _reconcile_forever(self) -> None:
        while True:
            self._woken = anyio.Event()
            self._plan = self._next_plan()
            for action in self._plan.actions:
                self._act(action)
            self._tell_changed()
            if self._plan.actions:
                # What was done may allow more at once; a settled plan is what ends this.
                await anyio.lowlevel.checkpoint()
                continue
            now = anyio.current_time()
            wait_s = math.inf if self._plan.wake_at is None else self._plan.wake_at - now
            with anyio.move_on_after(wait_s):
                await self._woken.wait()

    def _next_plan(self) -> Plan:
        views: list[SlotView] = [slot.view() for slot in self._slots.values()]
        return reconcile(views, self._goal, anyio.current_time())

    def _act(self, action: Action) -> None:
        tasks = self._tasks
        assert tasks is not None
        if action.verb is Verb.OPEN:
            role = Role.HOLDER if action.replaces is None else Role.REPLACEMENT
            slot = Slot[InfoT](action.slot, role, action.rank, action.replaces)
            slot.given_up = None if self._failed is None else str(self._failed)
            self._slots[action.slot] = slot
            self.emit(EventKind.SLOT_OPENED, action.slot, rank=action.rank, reason=action.reason)
            return
        slot = self._slots[action.slot]
        member = slot.incarnation
        match action.verb:
            case Verb.START:
                if slot.given_up is None:
                    tasks.start_soon(self._bring_up, slot, self._incarnate(slot, action.reason))
            case Verb.RANK:
                slot.role, slot.rank, slot.replaces = Role.HOLDER, action.rank, None
                self.emit(EventKind.SLOT_RANKED, slot.index, rank=slot.rank, reason=action.reason)
            case Verb.RETIRE:
                slot.role, slot.rank, slot.replaces = Role.RETIRING, None, None
                self.emit(EventKind.SLOT_RETIRED, slot.index, reason=action.reason)
            case Verb.DRAIN:
                assert member is not None
                self._advance(member, State.DRAINING, action.reason)
                way = self._descent(action.reason, action.deadline)
                tasks.start_soon(self._drain, slot, member, way)
            case Verb.RESTORE:
                assert member is not None and member.actor is not None
                if member.drain is not None:
                    member.drain.cancel()
                self._advance(member, State.READY, action.reason)
                tasks.start_soon(self._restore, member)
            case Verb.STOP:
                assert member is not None
                if member.drain is not None:
                    member.drain.cancel()
                self._advance(member, State.STOPPING, action.reason)
                tasks.start_soon(self._put_down, slot, member, self._descent(action.reason))
            case Verb.CLOSE:
                del self._slots[slot.index]
                self.emit(EventKind.SLOT_CLOSED, slot.index, reason=action.reason)

    # -- the life of one member ---------------------------------------------------------------

    def _incarnate(self, slot: Slot[InfoT], reason: str) -> Incarnation[InfoT]:
        slot.generation += 1
        identity = Identity(
            pool=self.name,
            instance=self.instance,
            slot=slot.index,
            generation=slot.generation,
            level=self.level,
        )
        life = Lifecycle(identity.member, anyio.current_time())
        member = slot.incarnation = Incarnation[InfoT](identity, life)
        self._say_state(member, reason)
        return member

    level = "member"
    """The word for this kind of member that is written on its actors and groups."""

    async def _bring_up(self, slot: Slot[InfoT], member: Incarnation[InfoT]) -> None:
        def explain(reason: str) -> None:
            slot.waits_for = reason
            self.emit(EventKind.SLOT_WAITING, slot.index, slot.generation, reason=reason)
            self._tell_changed()

        try:
            with member.bring_up:
                await bring_up(
                    self,
                    member,
                    start_timeout_s=self.start_timeout_s,
                    advance=self._advance,
                    watch=self._watch,
                    explain=explain,
                )
                member.ready_since = anyio.current_time()
                if not member.bring_up.cancel_called:
                    self._advance(member, State.READY, "it started")
        except* Exception as group:
            self._note_fault(slot, member, fault_of(_first(group)))
        finally:
            slot.waits_for = None
            member.brought_up.set()
            self._wake()

    def _watch(self, member: Incarnation[InfoT]) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(self._hold_lifeline, member)

    async def _hold_lifeline(self, member: Incarnation[InfoT]) -> None:
        assert member.actor is not None
        news = News()
        while True:
            told = await self.cluster.lifeline(member.actor, news.version)
            slot = self._slots.get(member.identity.slot)
            is_current = slot is not None and slot.incarnation is member
            if isinstance(told, Death):
                member.dead.set()
                if is_current:
                    self._note_fault(slot, member, told.fault)
                return
            news = told
            if not is_current:
                continue
            if self.take_notices(member.identity, news.notices):
                self._note_notices(member, "member", {"member": news.notices})
            if news.fault is not None:
                self._note_fault(slot, member, news.fault)

    def _note_fault(self, slot: Slot[InfoT], member: Incarnation[InfoT], fault: Fault) -> None:
        """Write down why a member failed, and plan its restart. The first fault counts."""
        if member.fault is not None or member.state in (State.STOPPING, State.GONE):
            return
        if member.notices and fault.cause in (Cause.CRASH, Cause.NODE_LOST, Cause.UNHEALTHY):
            # Ray cannot tell a preemption from a crash (see `deaths.py`); the notice can.
            fault = Fault(_cause_of_notice(member), fault.detail)
        member.fault = fault
        now = anyio.current_time()
        ran_s = max(0.0, now - member.ready_since) if member.ready_since < math.inf else 0.0
        failure = Failure(now, fault.cause, fault.detail, slot.index, ran_s, fault.retry_in_s)
        self._failures = prune(self.restart, (*self._failures, failure), now)
        self.emit(
            EventKind.MEMBER_FAULT,
            slot.index,
            member.identity.generation,
            cause=str(fault.cause),
            reason=fault.detail,
        )
        answer = plan_restart(
            self.restart, self._failures, slot=slot.index, now=now, key=f"{self.name}/{slot.index}"
        )
        if isinstance(answer, GiveUp):
            self._give_up(answer, fault)
        else:
            slot.not_before = answer.not_before
            self.emit(
                EventKind.RESTART_PLANNED,
                slot.index,
                in_s=round(answer.not_before - now, 3),
                reason=answer.reason,
            )
        self._wake()

    def _give_up(self, answer: GiveUp, fault: Fault) -> None:
        """Stop starting members; the level above decides (INV-6). Those that run go on."""
        if self._failed is None:
            self._failed = PoolFailed(self.name, f"{answer.cause}: {answer.reason}", fault.detail)
            self.emit(EventKind.POOL_FAILED, cause=str(answer.cause), reason=answer.reason)
            self.on_pool_failed(self._failed)
        for slot in self._slots.values():
            slot.given_up = answer.reason

    async def _drain(self, slot: Slot[InfoT], member: Incarnation[InfoT], way: Descent) -> None:
        with anyio.CancelScope() as member.drain:
            await let_work_end(self, member, way)
        if member.drain.cancel_called or member.state is not State.DRAINING:
            return
        self._advance(member, State.STOPPING, way.reason)
        await self._put_down(slot, member, way)

    async def _restore(self, member: Incarnation[InfoT]) -> None:
        assert member.actor is not None
        try:
            await self.restore_member(member.actor)
        except Exception as error:
            slot = self._slots.get(member.identity.slot)
            if slot is not None and slot.incarnation is member:
                detail = f"it could not be put back into service: {error}"
                self._note_fault(slot, member, Fault(Cause.UNHEALTHY, detail))

    async def _put_down(self, slot: Slot[InfoT], member: Incarnation[InfoT], way: Descent) -> None:
        report = await put_down(self, member, way)
        self._reports.append(report)
        self._advance(member, State.GONE, f"nothing of it is left ({report.rung})")
        slot.incarnation = None
        self.emit(
            EventKind.MEMBER_DRAINED,
            slot.index,
            member.identity.generation,
            rung=report.rung,
            took_s=round(report.took_s, 3),
            **({"troubles": list(report.troubles)} if report.troubles else {}),
        )
        self._wake()

    def _descent(self, reason: str, deadline: float | None = None) -> Descent:
        ends = [at for at in (deadline, self._closing_by) if at is not None]
        return Descent.begin(reason, self.drain_policy, min(ends, default=None))

    def _advance(self, member: Incarnation[InfoT], state: State, reason: str) -> None:
        member.life.advance(state, reason, anyio.current_time())
        self._say_state(member, reason)
        self._wake()

    def _say_state(self, member: Incarnation[InfoT], reason: str) -> None:
        identity = member.identity
        self.emit(
            EventKind.MEMBER_STATE,
            identity.slot,
            identity.generation,
            state=str(member.state),
            reason=reason,
        )

    # -- health -------------------------------------------------------------------------------

    async def _poll_forever(self) -> None:
        while True:
            # A draining member is not polled: it may well be too busy with its end.
            polled = [
                slot
                for slot in self._slots.values()
                if slot.incarnation is not None and slot.incarnation.state.is_up
            ]
            members = [slot.incarnation for slot in polled if slot.incarnation is not None]
            actors = [member.actor for member in members if member.actor is not None]
            with self._pulse.beat() as beat:
                replies = await self.check_members(actors, self.health.timeout_s)
            self.polled_at = time.monotonic()
            for slot, member, reply in zip(polled, members, replies, strict=True):
                if slot.incarnation is not member or not member.state.is_up:
                    continue
                verdict, why = beat.judge(member, reply)
                if verdict is Verdict.FAILED:
                    self._note_fault(slot, member, Fault(Cause.UNHEALTHY, why))
                elif verdict is Verdict.SUSPECT and member.state is State.READY:
                    self._advance(member, State.SUSPECT, why)
                elif verdict is Verdict.HEALTHY and member.state is State.SUSPECT:
                    self._advance(member, State.READY, why)
            await self._pulse.rest()

    # -- notices ------------------------------------------------------------------------------

    async def _ask_forever(self, source: ClusterNoticeSource) -> None:
        trouble = ""
        while True:
            members = [
                slot.incarnation for slot in self._slots.values() if slot.incarnation is not None
            ]
            nodes = sorted({node for member in members for node in member.nodes})
            try:
                found = await source.check(self.cluster, nodes)
            except SourceUnavailable as error:
                # No verdict (INV-9): what was known stays known. Said once for each trouble.
                if str(error) != trouble:
                    trouble = str(error)
                    self.emit(EventKind.SOURCE_UNAVAILABLE, source=source.name, reason=trouble)
            else:
                trouble = ""
                for member in members:
                    told = {node: (found[node],) for node in member.nodes if node in found}
                    self._note_notices(member, source.name, told)
            await anyio.sleep(source.period_s)

    def _note_notices(
        self, member: Incarnation[InfoT], source: str, told: dict[str, tuple[Notice, ...]]
    ) -> None:
        """Take over what one source says now of a member's nodes; the rest was withdrawn."""
        now = anyio.current_time()
        kept: dict[tuple[str, str], tuple[Notice, float]] = {
            key: known for key, known in member.notices.items() if key[0] != source
        }
        for node, notices in told.items():
            for number, notice in enumerate(notices):
                key = (source, f"{node}#{number}")
                known = member.notices.get(key)
                if known is not None and known[0] == notice:
                    kept[key] = known
                    continue
                left_s = NOTICE_PATIENCE_S
                if notice.deadline is not None:
                    left_s = max(0.0, notice.deadline - self.cluster.unix_time())
                kept[key] = (notice, now + left_s)
        if kept == member.notices:
            return
        gone = member.notices.keys() - kept.keys()
        for key in kept.keys() - member.notices.keys():
            self._say_notice(member, str(kept[key][0]), left_s=round(kept[key][1] - now, 1))
        for key in gone:
            self._say_notice(member, f"withdrawn: {member.notices[key][0]}")
        member.notices = kept
        self._wake()

    def _say_notice(self, member: Incarnation[InfoT], notice: str, **facts: object) -> None:
        identity = member.identity
        self.emit(
            EventKind.MEMBER_NOTICE, identity.slot, identity.generation, notice=notice, **facts
        )

    # -- small change -------------------------------------------------------------------------

    def _set_desired(self, desired: int, reason: str) -> None:
        if desired != self._goal.desired:
            self.emit(EventKind.POOL_SCALED, desired=desired, reason=reason)
        self._goal = Goal(desired=desired, surge=self._goal.surge, ladder_s=self._goal.ladder_s)
        self._wake()

    def _check_open(self) -> None:
        if self._tasks is None or self._closing_by is not None:
            how = "is closed" if self._tasks else "was not opened"
            raise PoolClosed(f"pool {self.name!r} {how}; use it inside `async with ... as pool:`")

    def _ready(self) -> int:
        return sum(
            slot.rank is not None
            and slot.incarnation is not None
            and slot.incarnation.state.is_serving
            for slot in self._slots.values()
        )

    def _is_at(self, size: int) -> bool:
        leaving = any(slot.role is Role.RETIRING for slot in self._slots.values())
        return self._goal.desired == size and self._ready() == size and not leaving

    def _is_hopeless(self) -> bool:
        """Whether the pool gave up and nothing that it has begun can still get ready."""
        return self._failed is not None and not any(
            slot.incarnation is not None and slot.incarnation.state.is_coming
            for slot in self._slots.values()
        )

    def _missing(self) -> dict[int, str]:
        return {
            slot.index: self._reason(slot)
            for slot in self._slots.values()
            if slot.rank is not None
            and (slot.incarnation is None or not slot.incarnation.state.is_serving)
        }

    def _reason(self, slot: Slot[InfoT]) -> str:
        """Say why a slot has no ready member; empty when it has one and nothing else is up."""
        member = slot.incarnation
        if slot.waits_for is not None:
            return slot.waits_for
        if member is not None and member.fault is not None:
            return f"{member.fault.cause}: {member.fault.detail}"
        planned = self._plan.waiting.get(slot.index, "")
        last = next((f for f in reversed(self._failures) if f.slot == slot.index), None)
        if planned and last is not None and (member is None or member.state.is_coming):
            return f"{planned}; last failure: {last.cause}: {last.detail}"
        return planned

    def _picture(self, slot: Slot[InfoT], now: float) -> SlotSnapshot:
        member = slot.incarnation
        picture = None
        if member is not None:
            picture = MemberSnapshot(
                id=member.identity.member,
                generation=member.identity.generation,
                state=member.state,
                age_s=now - member.life.since,
                actor_id=None if member.actor is None else member.actor.id,
                nodes=member.nodes,
                in_flight=member.in_flight,
                notices=tuple(
                    NoticeSnapshot(node_id=key[1], text=str(notice), left_s=leave_by - now)
                    for key, (notice, leave_by) in member.notices.items()
                ),
                health=member.health.last_detail if member.health.consecutive_failures else "",
                info=member.info,
            )
        return SlotSnapshot(
            index=slot.index,
            role=slot.role,
            rank=slot.rank,
            reason=self._reason(slot),
            member=picture,
        )

    def _wake(self) -> None:
        self._woken.set()

    def _tell_changed(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _until(self, predicate: Callable[[], bool]) -> None:
        while not predicate():
            await self._changed.wait()


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first exception that is no group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error


def _cause_of_notice(member: Incarnation[InfoT]) -> Cause:
    kinds = {notice.kind for notice, _ in member.notices.values()}
    return Cause.MAINTENANCE if kinds == {NoticeKind.MAINTENANCE} else Cause.PREEMPTION
