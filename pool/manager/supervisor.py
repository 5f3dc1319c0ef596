"""The mechanism of a manager: one loop that observes, plans and acts, and a task for each member.

Every event, be it a death, a notice, a verdict or a new size, does nothing but write down what was
seen and wake the loop. So there is one code path for scaling, replacing, draining and closing, and
an event that is lost costs time only. What is public stands in `manager.py`.

Longer than most modules here: the verbs of a plan, and what each sets going in a member's life, are
read together.
"""

from __future__ import annotations

import functools
import math
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup, TaskStatus

from pool.cluster.interface import (
    Cluster,
    Death,
    Fault,
    Identity,
    Lease,
    News,
)
from pool.cluster.lease import DOUBT_S, RESPITE_S
from pool.cluster.trace import trace_of
from pool.errors import Fenced, PoolFailed
from pool.manager.bring_up import bring_up, fault_of
from pool.manager.events import EventKind, EventLog, traced
from pool.manager.hooks import Hooks
from pool.manager.ladder import Descent, MemberReport, let_work_end, put_down
from pool.manager.member import Incarnation, InfoT, Slot
from pool.manager.notice_board import MEMBER_SOURCE, NoticeBoard
from pool.manager.policies import Policies
from pool.manager.portrait import reason_of
from pool.manager.restarts import Restarts
from pool.planning.lifecycle import Lifecycle, State
from pool.planning.plan import Action, Goal, Plan, Role, Verb
from pool.planning.reconcile import reconcile
from pool.planning.restart import Cause, GiveUp
from pool.planning.rolling import RollPolicy

if TYPE_CHECKING:
    from pool.notices.source import ClusterNoticeSource

AnswerT = TypeVar("AnswerT")

REPORTS_KEPT = 1000
TERM_BITS = 32
"""How many members an owner may begin before terms run over: one a second for a century."""
SPACING_S_PER_SLOT = 1e-5
"""A plan costs about a microsecond a slot, so planning takes a tenth of a core at the most."""
LEAST_SPACING_S = 0.001
"""Pools of up to 100 slots answer every event at once."""


class Supervisor(Hooks[InfoT]):
    """Bring the slots of a pool to its goal, and hold them there.

    The arguments are those of `ResourcePoolManager`, which checks them.
    """

    level = "member"
    """The word for this kind of member that is written on its actors and groups."""
    failure = EventKind.POOL_FAILED
    """What it is called when the pool gives up."""

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        instance: str,
        policies: Policies,
        sources: Sequence[ClusterNoticeSource],
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.instance = instance
        self.policies = policies
        self.emit = EventLog(name, cluster.unix_time)
        self.epoch = 1
        self.detached = False
        self._fenced: Fenced | None = None
        self.revision = self._previous = self._newest = 0
        self._goal = Goal(
            desired=0,
            surge=policies.surge,
            spares=policies.spares,
            ladder_s=policies.drain.timeout_s,
        )
        self._slots: dict[int, Slot[InfoT]] = {}
        self._generations: Counter[int] = Counter()
        self._serial = 0
        self._failed: PoolFailed | None = None
        self._plan = Plan()
        self._reports: deque[MemberReport] = deque(maxlen=REPORTS_KEPT)
        self._tasks: TaskGroup | None = None
        self._stop = anyio.CancelScope(shield=True)
        self._closing_by: float | None = None
        self._drain_policy = policies.drain
        self._woken = anyio.Event()
        self._changed = anyio.Event()
        self._listeners: dict[object, Callable[[], object]] = {}
        self._restarts = Restarts(policies.restart, name, self.emit)
        self._notices = NoticeBoard(
            cluster, self.emit, self._wake, policies.notices, policies.drain.timeout_s
        )
        self._sources = tuple(sources)
        self._hook_errors: set[tuple[str, type[Exception]]] = set()

    @property
    def lease(self) -> Lease:
        """What members are granted with each word from this manager."""
        return self.policies.lease(self.epoch)

    def _background(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """List the tasks that run for as long as the pool is open."""
        asking = [
            functools.partial(self._notices.ask_forever, source, self._incarnations)
            for source in self._sources
        ]
        attending = functools.partial(self._notices.attend, self._incarnations)
        return [self._reconcile_forever, attending, *asking]

    def _begin(self) -> None:
        """Do what comes before the first plan."""

    async def _run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run all the pool's tasks until `_stop` is cancelled.

        Shielded: whoever cancels the block that holds the pool must not take away the loop that
        drains it (INV-4).
        """
        try:
            with self._stop:
                async with anyio.create_task_group() as self._tasks:
                    self._begin()
                    for task in self._background():
                        self._tasks.start_soon(task)
                    task_status.started()
        finally:
            self._tasks = None
            self._tell_changed()

    # -- events -------------------------------------------------------------------------------

    def _set_desired(self, desired: int, reason: str) -> None:
        if desired != self._goal.desired:
            self.emit(EventKind.POOL_SCALED, desired=desired, reason=reason)
        self._goal = replace(self._goal, desired=desired)
        for slot in self._slots.values():
            slot.look_anew()  # Who is least busy counts only when the size changes.
        self._wake()

    def _set_roll(self, policy: RollPolicy | None, *, revision: int | None = None) -> None:
        """Say how outdated members are replaced, and by which revision."""
        if revision is not None:
            self.revision = revision
            for slot in self._slots.values():
                slot.revision = revision
                slot.look_anew()
        self._goal = replace(self._goal, roll=policy)
        self._wake()

    def _end_roll(self) -> None:
        """Let a roll be over when nobody is outdated any more."""
        roll = self._goal.roll
        if roll is not None and not any(slot.is_outdated for slot in self._slots.values()):
            self._set_roll(None)
            self.emit(EventKind.POOL_ROLLED, revision=self.revision)

    def _ask_hook(self, hook: Callable[..., AnswerT], default: AnswerT, *args: Any) -> AnswerT:
        """Call a plain hook that fails nobody; when it raises, say so and go on with its default.

        NB: what is raised here would end the pool's own tasks, and with them the pool.
        """
        try:
            return hook(*args)
        except Exception as error:
            self._say_hook_failed(hook.__name__, error)
            return default

    def _say_hook_failed(self, hook: str, error: Exception) -> None:
        """Say that a hook raised: once for each kind of error, for some are asked all the time."""
        if (hook, type(error)) not in self._hook_errors:
            self._hook_errors.add((hook, type(error)))
            reason = f"{type(error).__name__}: {error}"
            self.emit(EventKind.HOOK_FAILED, hook=hook, reason=reason, trace=trace_of(error))

    def _wake(self) -> None:
        self._woken.set()

    def _tell_changed(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
        for listener in list(self._listeners.values()):
            listener()

    async def _until(self, predicate: Callable[[], bool]) -> None:
        while not predicate():
            if self._fenced is not None:
                raise self._fenced
            await self._changed.wait()

    def _serving(self) -> list[Incarnation[InfoT]]:
        """List the members that have a rank and take work, by rank."""
        ranked = [
            (slot.rank, slot.incarnation)
            for slot in self._slots.values()
            if slot.rank is not None and slot.incarnation is not None
        ]
        ranked.sort(key=lambda pair: pair[0])
        return [member for _, member in ranked if member.is_serving]

    def _incarnations(self) -> list[Incarnation[InfoT]]:
        return [slot.incarnation for slot in self._slots.values() if slot.incarnation is not None]

    def _reason(self, slot: Slot[InfoT]) -> str:
        return reason_of(slot, self._plan, self._restarts.last_of(slot.index))

    def _lose(self, fenced: Fenced) -> None:
        """Stop at once, and touch nothing: the pool is somebody else's (INV-10)."""
        if self._fenced is None:
            self._fenced = fenced
            self.emit(EventKind.POOL_FENCED, reason=str(fenced))
            self._stop.cancel()

    # -- observe, plan, act -------------------------------------------------------------------

    async def _reconcile_forever(self) -> None:
        while True:
            self._woken = anyio.Event()
            self._end_roll()
            self._plan = self._next_plan()
            for action in self._plan.actions:
                self._act(action)
            self._tell_changed()
            if self._plan.may_allow_more:
                await anyio.lowlevel.checkpoint()
                continue
            now = anyio.current_time()
            wait_s = math.inf if self._plan.wake_at is None else self._plan.wake_at - now
            with anyio.move_on_after(wait_s):
                await self._woken.wait()
            # In a large pool many things happen while one plan is made; they share the next.
            spacing_s = len(self._slots) * SPACING_S_PER_SLOT
            if spacing_s > LEAST_SPACING_S:
                await anyio.sleep(spacing_s)

    def _next_plan(self) -> Plan:
        views = [slot.view() for slot in self._slots.values()]
        return reconcile(views, self._goal, anyio.current_time())

    def _act(self, action: Action) -> None:
        tasks = self._tasks
        assert tasks is not None
        if action.verb is Verb.OPEN:
            slot = Slot[InfoT](action.slot, action.role, action.rank, action.replaces)
            slot.revision = self.revision
            slot.not_before = action.not_before
            slot.given_up = None if self._failed is None else str(self._failed)
            self._slots[action.slot] = slot
            self.emit(
                EventKind.SLOT_OPENED,
                action.slot,
                role=str(action.role),
                rank=action.rank,
                reason=action.reason,
            )
            return
        slot = self._slots[action.slot]
        slot.look_anew()
        member = slot.incarnation
        match action.verb:
            case Verb.START:
                if slot.given_up is None:
                    tasks.start_soon(self._bring_up, slot, self._incarnate(slot, action.reason))
            case Verb.RANK:
                slot.role, slot.rank, slot.replaces = Role.HOLDER, action.rank, None
                if member is not None:
                    member.term = self._term(self._draw())
                self.emit(EventKind.SLOT_RANKED, slot.index, rank=slot.rank, reason=action.reason)
            case Verb.SPARE:
                slot.role, slot.rank, slot.replaces = Role.SPARE, None, None
                self.emit(EventKind.SLOT_SPARED, slot.index, reason=action.reason)
            case Verb.RETIRE:
                slot.role, slot.rank, slot.replaces = Role.RETIRING, None, None
                slot.retired = action.reason
                self.emit(EventKind.SLOT_RETIRED, slot.index, reason=action.reason)
            case Verb.DRAIN:
                assert member is not None
                reason = slot.retired or action.reason
                self._advance(member, State.DRAINING, reason)
                member.drain = anyio.CancelScope()
                way = self._descent(reason, action.deadline)
                tasks.start_soon(self._drain, slot, member, way, member.drain)
            case Verb.RESTORE:
                assert member is not None
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

    def _draw(self) -> int:
        """Return a number that this owner has not drawn before, and higher than those."""
        self._serial += 1
        return self._serial

    def _term(self, number: int) -> int:
        """Return a term: higher with each number, and higher than all of an earlier owner."""
        # A successor may not have heard of the last numbers that were drawn; its epoch is higher.
        return (self.epoch << TERM_BITS) + number

    def _incarnate(self, slot: Slot[InfoT], reason: str) -> Incarnation[InfoT]:
        # Counted over the life of the pool, not of the slot: an id is the name of an actor, and a
        # dead one's may still be taken when its slot was closed and is opened again.
        slot.generation = self._generations[slot.index] = self._generations[slot.index] + 1
        serial = self._draw()
        identity = Identity(
            pool=self.name,
            instance=self.instance,
            slot=slot.index,
            generation=slot.generation,
            level=self.level,
            serial=serial,
            revision=self.revision,
        )
        life = Lifecycle(identity.member, anyio.current_time())
        member = slot.incarnation = Incarnation[InfoT](identity, life, slot)
        if slot.rank is not None:
            member.term = self._term(serial)
        slot.look_anew()
        member.on_lost = functools.partial(self._note_fault, member)
        self._say_state(member, reason)
        return member

    async def _bring_up(self, slot: Slot[InfoT], member: Incarnation[InfoT]) -> None:
        try:
            with member.bring_up:
                await bring_up(
                    self,
                    member,
                    start_timeout_s=self.policies.start_timeout_s,
                    advance=self._advance,
                    watch=self._watch,
                    explain=functools.partial(self._say_why_it_waits, slot),
                )
                member.ready_since = anyio.current_time()
                if not member.bring_up.cancel_called:
                    self._advance(member, State.READY, "it started")
                    # Its first news may have come before it was ready.
                    self._apply_news(member)
        except* Exception as group:
            self._note_fault(member, fault_of(_first(group)))
        finally:
            slot.waits_for = None
            member.brought_up.set()
            self._wake()

    def _say_why_it_waits(self, slot: Slot[InfoT], reason: str) -> None:
        if reason != slot.waits_for:
            slot.waits_for = reason
            self.emit(EventKind.SLOT_WAITING, slot.index, slot.generation, reason=reason)
            self._tell_changed()

    def _watch(self, member: Incarnation[InfoT]) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(self._hold_lifeline, member)

    async def _hold_lifeline(self, member: Incarnation[InfoT]) -> None:
        assert member.actor is not None
        news = News()
        while True:
            told = await self.cluster.lifeline(member.actor, news.version)
            if isinstance(told, Death):
                member.dead.set()
                self._note_fault(member, told.fault)
                return
            news = told
            if self._ask_hook(self.take_notices, True, member.identity, news.notices):
                self._notices.take(member, MEMBER_SOURCE, news.notices)
            if news.fault is not None:
                self._note_fault(member, news.fault)
            had_trouble, member.news = bool(member.news.trouble), news
            self._apply_news(member)
            if had_trouble and not news.trouble and member.state is State.SUSPECT:
                self._advance(member, State.READY, "it takes work again")

    def _apply_news(self, member: Incarnation[InfoT]) -> None:
        """Take over who a member is now, and whether it takes no work, once it is ready."""
        if not member.has_opened:
            return
        if member.news.info is not None:
            member.info = member.news.info
        if member.news.trouble and member.state is State.READY:
            self._advance(member, State.SUSPECT, member.news.trouble)

    def _start_afresh(self) -> None:
        """Forget that the pool gave up, and the failures that made it do so."""
        if self._failed is not None:
            self._failed = None
            self._restarts.forget()
        for slot in self._slots.values():
            slot.given_up = None
            slot.look_anew()

    def _note_fault(self, member: Incarnation[InfoT], fault: Fault) -> None:
        """Write down why a member failed, and plan its restart. The first fault counts."""
        slot = self._slots.get(member.identity.slot)
        if slot is None or slot.incarnation is not member or member.fault is not None:
            return
        if member.state in (State.STOPPING, State.GONE):
            return
        slot.look_anew()
        if slot.role is Role.RETIRING:
            # It was to go anyway: that it went early uses no budget up.
            member.fault = fault
            self._wake()
            return
        answer = self._restarts.record(member, fault)
        if isinstance(answer, GiveUp):
            self._give_up(answer, fault)
        elif self._failed is None:
            slot.not_before = answer.not_before
            slot.look_anew()  # Whoever followed the event may have looked in between.
            in_s = round(answer.not_before - anyio.current_time(), 3)
            self.emit(EventKind.RESTART_PLANNED, slot.index, in_s=in_s, reason=answer.reason)
        self._wake()

    def _give_up(self, answer: GiveUp, fault: Fault) -> None:
        """Stop starting members; the level above decides (INV-6). Those that run go on."""
        if self._failed is None:
            cause = f"{answer.cause}: {answer.reason}"
            self._failed = PoolFailed(self.name, cause, fault.detail, fault.trace)
            self.emit(
                self.failure,
                cause=str(answer.cause),
                reason=answer.reason,
                **traced(fault.trace),
            )
            self._ask_hook(self.on_pool_failed, None, self._failed)
        for slot in self._slots.values():
            slot.given_up = answer.reason
            slot.look_anew()

    async def _drain(
        self, slot: Slot[InfoT], member: Incarnation[InfoT], way: Descent, scope: anyio.CancelScope
    ) -> None:
        with scope:
            await let_work_end(self, member, way)
        if not scope.cancel_called:
            self._advance(member, State.STOPPING, way.reason)
            await self._put_down(slot, member, way)

    async def _restore(self, member: Incarnation[InfoT]) -> None:
        assert member.actor is not None
        try:
            await self.restore_member(member.actor)
        except Exception as error:
            # One that is to leave again meanwhile need not serve any more (INV-9).
            if not member.state.is_leaving:
                detail = f"it could not be put back into service: {error}"
                self._note_fault(member, Fault(Cause.UNHEALTHY, detail))

    async def _put_down(self, slot: Slot[InfoT], member: Incarnation[InfoT], way: Descent) -> None:
        report = await put_down(self, member, way)
        self._reports.append(report)
        if member.actor is not None and report.rung != "hook":
            await self._outlast(slot, member)
        self._advance(member, State.GONE, f"nothing of it is left ({report.rung})")
        member.part()
        slot.incarnation = None
        slot.look_anew()
        self.emit(
            EventKind.MEMBER_DRAINED,
            slot.index,
            member.identity.generation,
            rung=report.rung,
            took_s=round(report.took_s, 3),
            **({"troubles": list(report.troubles)} if report.troubles else {}),
        )
        self._wake()

    async def _outlast(self, slot: Slot[InfoT], member: Incarnation[InfoT]) -> None:
        """Wait until a member that cannot be reached is gone by its lease (INV-1).

        Also one that is known to be dead: somebody below it may be on a node that does not answer.
        A pool that closes does not wait: the lease needs nobody.
        """
        if self._closing_by is not None or not await self._silent_nodes(member):
            return
        # Itself, with its grace; then those below it, who may hear from it until its very end.
        lease = self.lease
        late_s = 2 * DOUBT_S + RESPITE_S + self.policies.patience_s
        linger_s = lease.lasts_s + 2 * lease.grace_s + late_s
        member.lingers_until = anyio.current_time() + linger_s
        member.part()
        slot.look_anew()
        self.emit(
            EventKind.MEMBER_CUT_OFF,
            slot.index,
            member.identity.generation,
            ends_in_s=round(linger_s, 1),
        )
        self._wake()
        with anyio.move_on_after(linger_s):
            while self._closing_by is None:
                await self._changed.wait()

    def _descent(self, reason: str, deadline: float | None = None) -> Descent:
        ends = [at for at in (deadline, self._closing_by) if at is not None]
        return Descent.begin(reason, self._drain_policy, min(ends, default=None))

    def _advance(self, member: Incarnation[InfoT], state: State, reason: str) -> None:
        member.life.advance(state, reason, anyio.current_time())
        member.slot.look_anew()
        self._say_state(member, reason)
        if state is State.STARTING:
            self._tell_changed()  # A coming member is a coming member: no plan is different.
        else:
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

    async def _silent_nodes(self, member: Incarnation[InfoT]) -> Sequence[str]:
        assert member.actor is not None
        try:
            return await self.cluster.silent_nodes(member.nodes, member.actor)
        except Exception as error:
            # Nobody can tell, so that the worst is assumed; it costs a slot for a while.
            self.emit(EventKind.SOURCE_UNAVAILABLE, source="nodes", reason=repr(error))
            return member.nodes


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first exception that is no group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error
