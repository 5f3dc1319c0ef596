"""`ResourcePoolManager`: keep a pool at its size, whatever happens to its members.

This is what users call; the mechanism stands in `supervisor.py`, the steps that a subclass may
change in `hooks.py`.

The manager is the same in a driver, in an actor, and in a simulation: it knows the world by
`pool.cluster.interface` alone, and its clock is its event loop's.
"""

from __future__ import annotations

import functools
import math
import re
import secrets
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from pool.cluster.interface import Actor, Cluster
from pool.errors import ConfigError, PoolClosed, PoolFailed, SizeUnreachable
from pool.manager.events import Event, EventKind
from pool.manager.haste import join
from pool.manager.inheritance import Estate, slot_records, take_stock
from pool.manager.ladder import Descent, MemberReport, put_down
from pool.manager.member import InfoT, Member, Slot, by_rank
from pool.manager.policies import Policies
from pool.manager.portrait import slot_snapshot
from pool.manager.results import RollResult, ScaleResult
from pool.manager.snapshot import PoolSnapshot
from pool.manager.supervisor import Supervisor
from pool.notices.source import ClusterNoticeSource
from pool.ownership.keeper import Holding
from pool.ownership.owner import Owner, Terms, take_over
from pool.ownership.record import Record
from pool.planning.drain import Rung
from pool.planning.plan import Role
from pool.planning.restart import Failure
from pool.planning.rolling import RollPolicy
from pool.planning.sizes import largest_reachable, valid_sizes

NAME_PATTERN = re.compile(r"(?!.*/\d+\.\d+$)[A-Za-z0-9][A-Za-z0-9_./-]{0,99}")
CLOSE_MARGIN_S = 15.0
"""What closing may take beyond the ladder: its last rungs run even past the deadline."""
VERIFY_S = 5.0
"""How long the cluster's tables may lag behind the lifelines."""
VERIFY_AGAIN_S = 0.05


class ResourcePoolManager(Supervisor[InfoT]):
    """Keep a pool of actors at its desired size: start, poll, replace, drain and reap them.

    Subclass it and give `describe_member`; the other steps of `Hooks` have defaults. Use it as an
    async context manager: on every way out of the block its members are drained and nothing of the
    pool is left (INV-4).

    Args:
        name: The pool's name: letters, digits, `_ . / -`, up to 100 of them.
        cluster: The world to work in.
        policies: How members are polled, restarted and drained; sensible ones when left out.
        notices: Who is asked whether a node will go away.
        instance: A random word that tells pools of one name apart; made when left out.
        detached: Whether the pool outlives this process: see `detach` and `pool.attach`.
        keep_s: Seconds that a detached pool is kept without an owner; None keeps it for ever.

    Raises:
        ConfigError: A value cannot be right. Nothing was created.
    """

    name_pattern = NAME_PATTERN

    def __init__(
        self,
        name: str,
        *,
        cluster: Cluster,
        policies: Policies | None = None,
        notices: Sequence[ClusterNoticeSource] = (),
        instance: str | None = None,
        detached: bool = False,
        keep_s: float | None = None,
    ) -> None:
        if not (isinstance(name, str) and self.name_pattern.fullmatch(name)):
            raise ConfigError(
                f"the pool's name is {name!r}; give 1 to 100 letters, digits or any of _ . / -, "
                "beginning with a letter or digit, and not ending like a member's, as in /0.1",
                "name",
            )
        if keep_s is not None and not (detached and keep_s > 0):
            raise ConfigError(
                f"keep_s is {keep_s!r}; give more than 0 seconds, with detached=True", "keep_s"
            )
        instance = secrets.token_hex(4) if instance is None else instance
        super().__init__(name, cluster, instance, policies or Policies())
        self._sources = tuple(notices)
        self._scaling = object()
        self._outer: TaskGroup | None = None
        self._close_limit_s = math.inf
        self._previous = self._newest = self.revision
        self.detached = detached
        self._keep_s = keep_s
        self._heritage: tuple[Actor, Holding] | None = None
        self._frozen: tuple[int, bytes, bytes] | None = None
        self._let_go = False
        self._first_rung = Rung.WORK
        self._ways: weakref.WeakSet[Descent] = weakref.WeakSet()
        self._leave_haste: Callable[[], None] = lambda: None

    # -- opening and closing ------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._outer is not None:
            raise PoolClosed(f"pool {self.name!r} was opened before; make a new one")
        # Shielded: a cancellation here would leave a keeper that nobody knows of.
        with anyio.CancelScope(shield=True):
            estate = await self._become_owner()
        self._outer = anyio.create_task_group()
        await self._outer.__aenter__()
        # Shielded: a cancellation here would leave a task group that nobody leaves again.
        with anyio.CancelScope(shield=True):
            await self._outer.start(self._run, self._sources, estate)
        how = EventKind.POOL_OPENED if estate is None else EventKind.POOL_ATTACHED
        self.emit(how, instance=self.instance, epoch=self.epoch)
        self._leave_haste = join(lambda run_hooks: self.hurry(run_hooks=run_hooks))
        return self

    async def _become_owner(self) -> Estate[InfoT] | None:
        """Found a detached pool, or take over what another owner has left."""
        terms = Terms(self.name, self.lease, self._keep_s)
        if self._heritage is None:
            if self.detached:
                self._owner = await Owner.found(self.cluster, terms)
                self.epoch = self._owner.epoch
            return None
        keeper, holding = self._heritage
        self._owner = await take_over(self.cluster, terms, keeper, holding)
        self.epoch = self._owner.epoch
        record = holding.record
        assert record is not None
        found = [
            one
            for one in await self.cluster.inventory(self.name, record.instance)
            if one.identity.pool == self.name
        ]
        self._goal = replace(self._goal, desired=record.desired, roll=record.roll)
        return take_stock(record, found, self.can_adopt, anyio.current_time())

    def inherit(self, keeper: Actor, holding: Holding) -> None:
        """Make this, before it is opened, the next owner of a detached pool. `attach` does."""
        record = holding.record
        assert record is not None
        self._heritage = keeper, holding
        self.instance = record.instance
        self.revision, self._previous = record.revision, record.previous
        self._newest = record.newest
        self.recall(self.cluster.thaw(record.memory))

    def _will(self) -> tuple[Record, tuple[Actor, ...]]:
        if self._frozen is None or self._frozen[0] != self._newest:
            recipe = self.cluster.freeze(self.recipe())
            self._frozen = self._newest, recipe, self.cluster.freeze(self.remember())
        _, recipe, memory = self._frozen
        record = Record(
            instance=self.instance,
            recipe=recipe,
            memory=memory,
            desired=self._goal.desired,
            revision=self.revision,
            previous=self._previous,
            newest=self._newest,
            roll=self._goal.roll,
            serial=self._serial,
            generations=dict(self._generations),
            slots=slot_records(self._slots.values()),
        )
        members = self._incarnations()
        return record, tuple(member.actor for member in members if member.actor is not None)

    def recipe(self) -> Callable[[Cluster], Any]:
        """Return how to make this manager again, in another process; for detached pools.

        What is returned is pickled. A subclass whose constructor is another has to override it.
        """
        return functools.partial(
            _make,
            type(self),
            self.name,
            policies=self.policies,
            notices=self._sources,
            detached=True,
            keep_s=self._keep_s,
        )

    async def detach(self) -> None:
        """Leave the pool as it is, without an owner, for somebody to `attach` to.

        Members that are on their way out are waited for. After this the pool takes no calls here,
        and leaving the block ends nothing.

        Raises:
            ConfigError: The pool was not made with `detached=True`, and ends with this process.
            Fenced: Somebody else owns the pool already.
            PoolClosed: The pool is not open.

        Cancelling it before it is done leaves the pool owned, and as it was.
        """
        self._check_open()
        if self._owner is None:
            raise ConfigError(
                f"pool {self.name!r} would end with this process; make it with detached=True",
                "detached",
            )
        with anyio.move_on_after(self.policies.drain.timeout_s + CLOSE_MARGIN_S):
            await self._until(
                lambda: not any(member.state.is_leaving for member in self._incarnations())
            )
        with anyio.CancelScope(shield=True):
            await self._owner.leave(*self._will())
            await self._owner.let_go()
            self._let_go = True
            self.emit(EventKind.POOL_DETACHED)
            self._stop.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._outer is not None
        # A cancellation belongs to the task group; the block's own error is to arrive as itself,
        # not in a group with the errors of tasks.
        is_cancelled = isinstance(error, anyio.get_cancelled_exc_class())
        try:
            # Work in flight is waited for only when the block ended well.
            if not self._let_go and self._fenced is None:
                await self._close(at_work=error is None)
        finally:
            self._leave_haste()
            self._stop.cancel()
            if not is_cancelled:
                kind = error = traceback = None
            handled = await self._outer.__aexit__(kind, error, traceback)
            # Last, for an owner makes a new keeper for one that ends.
            if self._owner is not None and not self._let_go and self._fenced is None:
                with anyio.CancelScope(shield=True):
                    await self._owner.dismiss_keeper()
        return handled and is_cancelled

    async def _close(self, *, at_work: bool) -> None:
        """Drain every member; shielded, so that a cancellation cannot leave anything (INV-4).

        Args:
            at_work: Whether to wait for work in flight.
        """
        if not at_work:
            self.hurry(run_hooks=True)
        if not at_work or self._close_limit_s < math.inf:
            self._drain_policy = replace(self._drain_policy, work_share=0)
        limit_s = min(self._drain_policy.timeout_s, self._close_limit_s)
        self._closing_by = anyio.current_time() + limit_s
        self._set_desired(0, "the pool closes")
        with anyio.CancelScope(shield=True):
            try:
                await self._wait_empty(limit_s + CLOSE_MARGIN_S)
            finally:
                # Only a bug, a cluster that does not answer, or an event loop that was torn down
                # leaves any to be put down here; nobody hears their lifelines any more.
                if left_behind := self._incarnations():
                    self.hurry()
                async with anyio.create_task_group() as tasks:
                    for member in left_behind:
                        way = self._descent("the pool closes")
                        tasks.start_soon(put_down, self, member, way)
                for left in await self.find_leftovers():
                    self.emit(EventKind.LEFTOVER, what=left)
                self.emit(EventKind.POOL_CLOSED)

    async def _wait_empty(self, timeout_s: float) -> None:
        """Wait until no slot is left; whatever breaks the wait shortens the ladder, and is raised.

        NB: no shield holds off the `cancel()` of an asyncio task, nor the KeyboardInterrupt of a
        second Ctrl-C, after which the loop, and with it the pool's own tasks, is torn down.
        """
        broken: BaseException | None = None
        until = anyio.current_time() + timeout_s
        while self._slots and self._tasks is not None and anyio.current_time() < until:
            try:
                with anyio.move_on_after(until - anyio.current_time()):
                    await self._until(lambda: not self._slots or self._tasks is None)
            except BaseException as error:
                broken = error
                is_first = self._first_rung is Rung.WORK
                self.hurry(run_hooks=is_first and not isinstance(error, KeyboardInterrupt))
        if broken is not None:
            raise broken

    def hurry(self, *, run_hooks: bool = False) -> None:
        """Go straight to the kill rung: nobody who leaves is waited for any more.

        The wait for work in flight and the `shutdown()` hook of every member that is leaving are
        cut short, and left out for those that leave from now on: when the pool closes, is scaled
        down, or replaces somebody. Members are killed and their groups removed, as ever (INV-4).
        It holds until the pool is scaled to more than nothing again.

        Call it on the pool's own event loop; from elsewhere, by `loop.call_soon_threadsafe`.

        Args:
            run_hooks: Whether to stop at the hooks: only the work in flight is not waited for.
        """
        rung = Rung.HOOK if run_hooks else Rung.KILL
        if rung is Rung.KILL and self._first_rung < rung and self._slots:
            self.emit(EventKind.POOL_HURRIED)
        self._first_rung = max(self._first_rung, rung)
        for way in list(self._ways):
            way.skip_to(self._first_rung)

    def _descent(self, reason: str, deadline: float | None = None) -> Descent:
        way = super()._descent(reason, deadline)
        way.skip_to(self._first_rung)
        self._ways.add(way)
        return way

    async def find_leftovers(self) -> list[str]:
        """Ask the cluster until nothing of this pool is left there, or the patience ends.

        Returns:
            What is left, in words.
        """
        left: list[str] = []
        with anyio.move_on_after(VERIFY_S):
            while True:
                left = await self.cluster.leftovers(self.name, self.instance)
                if not left:
                    break
                await anyio.sleep(VERIFY_AGAIN_S)
        return left

    def limit_close(self, budget_s: float) -> None:
        """Let closing take no longer than what the level above has left for it.

        Work in flight is not waited for then: the level above has done so before it closes.
        """
        self._close_limit_s = budget_s

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
            PoolClosed: The pool is not open, or began to close meanwhile.

        Cancelling it leaves the new size in force.
        """
        self._check_open()
        sizes = valid_sizes(size)
        before = self._goal.desired
        sizes = await self.check_size(sizes)
        target = sizes[-1]
        if target:
            self._first_rung = Rung.WORK
        ticket = self._scaling = object()
        self._start_afresh()
        self._set_desired(target, f"scale({size})")
        with anyio.move_on_after(math.inf if timeout_s is None else timeout_s):
            await self._until(
                lambda: (
                    self._scaling is not ticket
                    or self._is_at(target)
                    or self._is_hopeless()
                    or self._closing_by is not None
                )
            )
        if target:
            self._check_open()  # A pool that closes must not be given a size again.
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

    # -- rolling replacement ------------------------------------------------------------------

    async def roll(
        self, policy: RollPolicy | None = None, *, timeout_s: float | None = None
    ) -> RollResult:
        """Replace every member by one of a new revision, a few at a time.

        Args:
            policy: How many more, and how many ready ones fewer, there may be meanwhile. By
                default one more where the pool has a surge, and else one fewer.
            timeout_s: Seconds to wait; None waits for ever.

        Returns:
            How far it came. When the time is up the roll goes on.

        Raises:
            PoolFailed: The new revision used its restarts up. What works of the old one is kept;
                `roll_back`, or mend the cause and `scale` to try again.
            PoolClosed: The pool is not open.

        Cancelling it leaves the roll in force.
        """
        self._check_open()
        self._previous = self.revision
        self._newest += 1
        return await self._roll_to(self._newest, policy, timeout_s)

    async def roll_back(
        self, policy: RollPolicy | None = None, *, timeout_s: float | None = None
    ) -> RollResult:
        """Roll to the revision before the last `roll`; those of it that still run stay.

        Args, result, errors and cancellation are those of `roll`.
        """
        self._check_open()
        target, self._previous = self._previous, self.revision
        return await self._roll_to(target, policy, timeout_s)

    def pause_roll(self) -> None:
        """Let nobody else go; what was begun is finished. Idempotent."""
        self._check_open()
        if self._goal.roll is not None:
            self._set_roll(replace(self._goal.roll, paused=True))

    def resume_roll(self) -> None:
        """Go on with a roll that was paused. Idempotent."""
        self._check_open()
        if self._goal.roll is not None:
            self._set_roll(replace(self._goal.roll, paused=False))

    async def _roll_to(
        self, revision: int, policy: RollPolicy | None, timeout_s: float | None
    ) -> RollResult:
        if policy is None:
            surge = self.policies.surge
            policy = RollPolicy(surge=surge, max_unavailable=0 if surge else 1)
        self._start_afresh()
        self._set_roll(policy, revision=revision)
        self.emit(EventKind.POOL_ROLLING, revision=revision, policy=repr(policy))
        with anyio.move_on_after(math.inf if timeout_s is None else timeout_s):
            await self._until(
                lambda: (
                    self.revision != revision
                    or self._failed is not None
                    or (self._goal.roll is None and self._is_at(self._goal.desired))
                )
            )
        if self._failed is not None:
            raise self._failed
        slots = self._slots.values()
        outdated = {slot.index: self._reason(slot) for slot in slots if slot.is_outdated}
        return RollResult(revision, self._ready(), outdated, self.revision != revision)

    # -- what it is now -----------------------------------------------------------------------

    @property
    def desired(self) -> int:
        """The size that the pool is meant to have."""
        return self._goal.desired

    @property
    def most(self) -> int:
        """How many members may live at once now: desired, spares and surge (INV-2).

        One that is cut off does not count: the cluster holds nothing for it any more.
        """
        return self._goal.most

    @property
    def is_open(self) -> bool:
        """Whether the pool looks after its members."""
        return self._tasks is not None and self._closing_by is None

    @property
    def is_settled(self) -> bool:
        """Whether the pool is as it is meant to be: nothing to do, nothing to wait for (INV-5)."""
        return self._next_plan().is_settled

    @property
    def failed(self) -> PoolFailed | None:
        """Why the pool gave up; None while it has not. The next `scale` starts afresh."""
        return self._failed

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failures that the restart policy still remembers, oldest first."""
        return self._restarts.failures

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
            spares=self._goal.spares_now,
            spares_ready=sum(
                slot.role is Role.SPARE and slot.view().is_well for slot in self._slots.values()
            ),
            revision=self.revision,
            roll=self._roll_in_words(),
            settled=self.is_settled,
            failed=None if self._failed is None else str(self._failed),
            slots=tuple(
                slot_snapshot(slot, self._reason(slot), now)
                for slot in by_rank(list(self._slots.values()))
            ),
            restarts=self._restarts.by_cause(),
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
            await self._until(lambda: self._failed is not None or self.is_settled)
        if self._failed is not None:
            raise self._failed

    async def changed(self) -> None:
        """Wait until something about the pool changes."""
        await self._changed.wait()

    def on_change(self, listener: Callable[[], object]) -> Callable[[], object]:
        """Call `listener`, on the pool's loop, whenever something about the pool changes.

        Returns:
            A function that ends it.
        """
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None)

    def spawn(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task beside the pool's own; it is cancelled when the pool has closed."""
        self._check_open()
        assert self._tasks is not None
        self._tasks.start_soon(task)

    def _roll_in_words(self) -> str:
        roll = self._goal.roll
        if roll is None:
            return ""
        outdated = sum(slot.is_outdated for slot in self._slots.values())
        held = "held" if roll.paused else "under way"
        return f"{held} to revision {self.revision}, {outdated} outdated"

    # -- small change -------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._fenced is not None:
            raise self._fenced
        if self._let_go:
            raise PoolClosed(f"pool {self.name!r} was detached; attach({self.name!r}) to go on")
        if self._tasks is None or self._closing_by is not None:
            how = "is closed" if self._outer else "was not opened"
            raise PoolClosed(f"pool {self.name!r} {how}; use it inside `async with ... as pool:`")

    def _ready(self) -> int:
        return sum(
            slot.rank is not None
            and slot.incarnation is not None
            and slot.incarnation.state.is_serving
            for slot in self._slots.values()
        )

    def _is_at(self, size: int) -> bool:
        """Whether the pool has this size, all ready, and nobody is leaving.

        Asked at every change, so it stops at the first slot that says no.
        """
        if self._goal.desired != size:
            return False
        ready = 0
        for slot in self._slots.values():
            if slot.role is Role.RETIRING and not _lingers(slot):
                return False
            if slot.rank is not None:
                if slot.incarnation is None or not slot.incarnation.is_serving:
                    return False
                ready += 1
        return ready == size

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


def _make(kind: type[Any], name: str, cluster: Cluster, **options: Any) -> Any:
    """Make a manager again; what a default recipe calls."""
    return kind(name, cluster=cluster, **options)


def _lingers(slot: Slot[Any]) -> bool:
    """Whether the slot waits only for a member that is cut off to end by its lease."""
    return slot.incarnation is not None and slot.incarnation.lingers_until is not None
