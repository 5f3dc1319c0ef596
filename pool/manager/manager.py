"""`ResourcePoolManager`: keep a pool at its size, whatever happens to its members.

This is what users call. Below it stand, each on the one before: the steps that a subclass may
change (`hooks.py`), the loop that observes, plans and acts (`supervisor.py`), polls and leases
(`vitals.py`), how far it is (`progress.py`), owners that follow each other (`succession.py`), the
block that the pool lives in (`lifetime.py`), and rolls (`rolls.py`).

The manager is the same in a driver, in an actor, and in a simulation: it knows the world by
`pool.cluster.interface` alone, and its clock is its event loop's.
"""

from __future__ import annotations

import functools
import math
import re
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import anyio

from pool.cluster.interface import Actor, Cluster
from pool.errors import ConfigError, PoolFailed, SizeUnreachable
from pool.manager.arguments import (
    check_cluster,
    check_flag,
    check_instance,
    check_on_loop,
    check_timeout,
)
from pool.manager.events import Event
from pool.manager.ladder import MemberReport
from pool.manager.member import InfoT, Member, by_rank
from pool.manager.metering import Gauged, Metering
from pool.manager.orders import carry_out
from pool.manager.policies import Policies
from pool.manager.portrait import slot_snapshot
from pool.manager.results import ScaleResult
from pool.manager.rolls import Rolls
from pool.manager.show import note, picture
from pool.manager.snapshot import PoolSnapshot
from pool.metrics import table
from pool.planning.drain import Rung
from pool.planning.plan import Action, Role, Verb
from pool.planning.restart import Failure
from pool.planning.sizes import largest_reachable, valid_sizes
from pool.window.display import Display
from pool.window.requests import Request

if TYPE_CHECKING:
    from pool.notices.source import ClusterNoticeSource

NAME_PATTERN = re.compile(r"(?!.*/\d+(\.\d+)?$)[A-Za-z0-9][A-Za-z0-9_./-]{0,99}")


class ResourcePoolManager(Rolls[InfoT]):
    """Keep a pool of actors at its desired size: start, poll, replace, drain and reap them.

    Subclass it and give `describe_member`; the other steps of `Hooks` have defaults. Use it as an
    async context manager: on every way out of the block its members are drained and nothing of the
    pool is left (INV-4).

    Args:
        name: The pool's name: letters, digits, `_ . / -`, up to 100 of them; not ending like a
            slot's, as in `a/3`.
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
    is_shown = True
    """Whether it shows itself to operators; what is inside of members does not."""

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
                "beginning with a letter or digit, and not ending like a slot's or a "
                "member's, as in /0 or /0.1",
                "name",
            )
        check_cluster(cluster)
        check_flag(detached, "detached")
        instance = secrets.token_hex(4) if instance is None else instance
        check_instance(instance)
        check_on_loop(type(self).__name__, name)
        super().__init__(name, cluster, instance, policies or Policies(), notices, detached, keep_s)
        # The calls of `scale`, by number: the last that was asked, and the last that took effect.
        self._asked = self._in_force = 0
        self._display: Display | None = None
        if self.is_shown and cluster.has_window:
            self._display = Display(self, lambda: len(self._slots))
            self.follow(lambda event: note(self._display, event))

    def _background(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        showing = [] if self._display is None else [self._display.run]
        metering = Metering(self.name, self.cluster) if self.is_shown else None
        if metering is not None and metering.is_on:
            showing.append(functools.partial(metering.run, self.emit, self._gauge))
        return [*super()._background(), *showing]

    def _gauge(self) -> Gauged:
        """Return what the pool's gauges show now."""
        members = self._incarnations()
        return Gauged(
            states=[member.state for member in members],
            budgets=self._restarts.budgets(),
            values={
                table.DESIRED: self._goal.desired,
                table.READY: self._ready(),
                table.SPARES: self._goal.spares_now,
                table.SPARES_READY: self._spares_ready(),
                table.NOTICED: sum(bool(member.due()) for member in members),
                table.OUTDATED: sum(slot.is_outdated for slot in self._slots.values()),
                table.IN_FLIGHT: sum(member.in_flight for member in members),
                table.SETTLED: self._plan.is_settled,
                table.FAILED: self._failed is not None,
            },
        )

    def _spares_ready(self) -> int:
        return sum(slot.role is Role.SPARE and slot.view().is_well for slot in self._slots.values())

    def _tell_changed(self) -> None:
        if self._display is not None:
            self._display.changed()
        super()._tell_changed()

    def __enter__(self) -> NoReturn:
        """Say that it is entered otherwise."""
        raise ConfigError(
            f"pool {self.name!r} was opened by `with`; write `async with ... as pool:`, or in a "
            "script without asyncio `with pool.blocking.ReplicaPool(...) as replicas:`"
        )

    def __exit__(self, *error: object) -> None:
        """Never be called: without it, `with` would not come as far as `__enter__`."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return await super().__aexit__(kind, error, traceback)
        finally:
            if self._display is not None and self._fenced is None:
                await self._display.close(leave=self._let_go)

    # -- what users ask for -------------------------------------------------------------------

    async def scale(
        self, size: int | Iterable[int], *, timeout_s: float | None = 600.0
    ) -> ScaleResult:
        """Bring the pool to a size, and wait until it is there.

        Growing, shrinking and replacing touch no other member (INV-3).

        Args:
            size: How many members. Several sizes mean "the largest of these that can be had": when
                the time is up the pool settles at the largest one reached, and gives back the rest.
            timeout_s: Seconds to wait, and up to one more to find out what is missing; None waits
                for ever.

        Returns:
            What was reached, with the reason for each slot that is missing. With a single size
            fewer may have been reached; the pool goes on trying.

        Raises:
            ConfigError: A size is no whole number, is negative, or is 0 among several; or the
                time-out is no number of seconds.
            InfeasibleError: The cluster could never hold any of these sizes; nothing was created.
            SizeUnreachable: The time is up, or the pool gave up, and none of several sizes was
                reached, or nothing of a single one. The pool is back at the size it had before.
            PoolClosed: The pool is not open, or began to close meanwhile.

        Cancelling it leaves the new size in force.
        """
        self._check_open()
        sizes = valid_sizes(size)
        check_timeout(timeout_s)
        self._asked = number = self._asked + 1
        sizes = await self.check_size(sizes)
        target = sizes[-1]
        await self._announce(desired=target)
        if target:
            self._check_open()  # Also one that began to close meanwhile: no member starts in it.
        before = self._goal.desired
        # A later call may have been answered sooner; it is the one that counts.
        if number > self._in_force:
            self._in_force = number
            if target:
                self._first_rung = Rung.WORK
            self._start_afresh()
            self._set_desired(target, f"scale({size})")

        def is_superseded() -> bool:
            # A pool that follows its load, or its program, changes its size without a call.
            return self._in_force != number or self._goal.desired != target

        with anyio.move_on_after(math.inf if timeout_s is None else timeout_s) as wait:
            await self._until(
                lambda: (
                    is_superseded()
                    or self._is_at(target)
                    or self._is_hopeless()
                    or self._closing_by is not None
                )
            )
        if wait.cancelled_caught and not is_superseded():
            await self._ask_what_is_missing()
        if target:
            self._check_open()  # A pool that closes must not be given a size again.
        reached = self._ready()
        missing = self._missing()
        if is_superseded():
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
        is_other = self._in_force != number or self._goal.desired != settled
        desired = self._goal.desired
        return ScaleResult(target, self._ready(), desired, missing, superseded=is_other)

    async def drain(self, *, timeout_s: float | None = None) -> tuple[MemberReport, ...]:
        """Scale to nothing, and report for each member how far down the ladder it had to go."""
        known = set(self._reports)
        await self.scale(0, timeout_s=timeout_s)
        return tuple(report for report in self._reports if report not in known)

    def drain_slot(self, index: int, reason: str = "it was asked to leave") -> None:
        """Let one slot's member finish its work and leave; its rank goes to a spare or a new slot.

        The other slots stay as they are (INV-3). It waits for nothing; the slot closes when its
        member is gone.

        Args:
            index: The slot's index.
            reason: Why, for the events.

        Raises:
            ConfigError: There is no such slot.
            PoolClosed: The pool is not open.
        """
        self._check_open()
        if index not in self._slots:
            there = ", ".join(map(str, sorted(self._slots))) or "none"
            raise ConfigError(f"pool {self.name!r} has no slot {index}; there are: {there}", "slot")
        if self._slots[index].role is not Role.RETIRING:
            self._act(Action(verb=Verb.RETIRE, slot=index, reason=reason))
            self._wake()

    async def wait_drained(self, index: int) -> None:
        """Wait until a slot that was told to leave has closed."""
        await self._until(
            lambda: index not in self._slots or self._slots[index].role is not Role.RETIRING
        )

    async def carry_out(self, request: Request) -> Any:
        """Do what was asked through the pool's window, and return what came of it.

        A subclass may know more verbs, and leave the others to this.

        Raises:
            ConfigError: It is not understood.
            PoolError: What the method that it stands for raises.
        """
        return await carry_out(self, request)

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
            spares_ready=self._spares_ready(),
            revision=self.revision,
            roll=self._roll_in_words(),
            settled=self.is_settled,
            failed=None if self._failed is None else str(self._failed),
            slots=tuple(
                slot_snapshot(slot, self._reason(slot), now)
                for slot in by_rank(list(self._slots.values()))
            ),
            restarts=self._restarts.by_cause(),
            budgets=self._restarts.budgets(),
        )

    @property
    def is_left(self) -> bool:
        """Whether the pool was detached here, for somebody else to go on with."""
        return self._let_go

    def picture(self) -> Mapping[str, Any]:
        """Return what the pool's window shows of it, in the words of JSON."""
        return picture(self)

    def _shown_info(self, info: InfoT) -> Mapping[str, Any]:
        """Return what `show_info` tells of a member's info; nothing when it raises."""

        def show_info() -> Mapping[str, Any]:
            return dict(self.show_info(info))

        return self._ask_hook(show_info, {})

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
            ConfigError: The time-out is no number of seconds.
        """
        check_timeout(timeout_s)
        with anyio.move_on_after(timeout_s) as wait:
            await self._until(lambda: self._failed is not None or self.is_settled)
        if wait.cancelled_caught:
            missing = "".join(f"; slot {slot}: {why}" for slot, why in self._missing().items())
            raise TimeoutError(
                f"pool {self.name!r} did not settle within {timeout_s} s: {self._ready()} of "
                f"{self._goal.desired} members are ready{missing}"
            )
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
