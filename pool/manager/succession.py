"""Owning a pool that outlives its owners: to found it, to take it over, to leave it, to lose it.

The owner leaves what its successor has to know with the pool's keeper (`pool.ownership`); the
successor finds the members by their names, and goes on with them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio

from pool.cluster.interface import Actor, Cluster, Found
from pool.errors import CallTimeout, ConfigError, Fenced, MemberLost
from pool.manager.events import EventKind
from pool.manager.inheritance import Estate, slot_records, take_stock
from pool.manager.member import InfoT
from pool.manager.policies import Policies
from pool.manager.progress import Progress
from pool.ownership.keeper import Holding
from pool.ownership.owner import Owner, Terms, take_over
from pool.ownership.record import Record

if TYPE_CHECKING:
    from pool.notices.source import ClusterNoticeSource


class Succession(Progress[InfoT]):
    """Own a pool as one of several, one after the other.

    Args:
        detached: Whether the pool outlives this process.
        keep_s: Seconds that a detached pool is kept without an owner; None keeps it for ever.
    """

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        instance: str,
        policies: Policies,
        sources: Sequence[ClusterNoticeSource],
        detached: bool,
        keep_s: float | None,
    ) -> None:
        if keep_s is not None and not (detached and keep_s > 0):
            raise ConfigError(
                f"keep_s is {keep_s!r}; give more than 0 seconds, with detached=True", "keep_s"
            )
        super().__init__(name, cluster, instance, policies, sources)
        self.detached = detached
        self._keep_s = keep_s
        self._owner: Owner | None = None
        self._heritage: tuple[Actor, Holding] | None = None
        self._estate: Estate[InfoT] | None = None
        self._recipe: bytes | None = None
        self._remembered: bytes | None = None
        self._announced: list[Mapping[str, Any]] = []
        self._let_go = False

    def _background(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        owning: list[Callable[[], Coroutine[Any, Any, None]]] = []
        if self._owner is not None:
            owning = [
                functools.partial(self._stay_owner, self._owner),
                functools.partial(self._await_successor, self._owner),
            ]
        return [*super()._background(), *owning]

    def _begin(self) -> None:
        if self._estate is not None:
            self._adopt(self._estate)

    def _tell_changed(self) -> None:
        if self._owner is not None:
            self._owner.changed()
        super()._tell_changed()

    # -- to come to own it --------------------------------------------------------------------

    async def _become_owner(self) -> None:
        """Found a detached pool, or take over what another owner has left."""
        terms = Terms(self.name, self.lease, self._keep_s)
        if self._heritage is not None:
            keeper, seen = self._heritage
            self._owner, record = await take_over(self.cluster, terms, keeper, seen)
            try:
                await self._take_stock(record)
            except BaseException:
                await self._owner.let_go()
                raise
        elif self.detached:
            self._will()  # What cannot be left to a successor is refused before anything is made.
            self._owner = await Owner.found(self.cluster, terms)
        if self._owner is not None:
            self.epoch = self._owner.epoch

    async def _take_stock(self, record: Record) -> None:
        """Find what is there, and take over what it was for."""
        self.revision, self._previous = record.revision, record.previous
        self._newest = record.newest
        self._remembered = record.memory
        self.recall(self.cluster.thaw(record.memory))
        self._goal = replace(self._goal, desired=record.desired, roll=record.roll)
        found = await self.cluster.inventory(self.name, record.instance)
        members = [one for one in found if one.identity.pool == self.name]
        self._estate = take_stock(record, members, self.can_adopt, anyio.current_time())

    def inherit(self, keeper: Actor, holding: Holding) -> None:
        """Make this, before it is opened, the next owner of a detached pool. `attach` does."""
        record = holding.record
        assert record is not None
        self._heritage = keeper, holding
        self.instance = record.instance

    def _will(self) -> tuple[Record, tuple[Actor, ...]]:
        if self._recipe is None:
            self._recipe = self._freeze("it is made from", self.recipe())
        record = Record(
            instance=self.instance,
            recipe=self._recipe,
            memory=self._memory(),
            desired=self._goal.desired,
            revision=self.revision,
            previous=self._previous,
            newest=self._newest,
            roll=self._goal.roll,
            serial=self._serial,
            generations=dict(self._generations),
            slots=slot_records(self._slots.values()),
        )
        for changes in self._announced:
            record = replace(record, **changes)
        # Who is cut off is to end by its lease, and must not hear from the keeper either.
        return record, tuple(
            member.actor
            for member in self._incarnations()
            if member.actor is not None and member.lingers_until is None
        )

    def _memory(self) -> bytes:
        """Return what the next owner has to know; what it was last, when that cannot be had now."""
        try:
            self._remembered = self._freeze("it remembers", self.remember())
        except Exception as error:
            # Before anything is made it is the caller's error; a pool that runs is not ended by it.
            if self._remembered is None:
                raise
            self._say_hook_failed("remember", error)
        return self._remembered

    def _freeze(self, what: str, value: Any) -> bytes:
        try:
            return self.cluster.freeze(value)
        except Exception as error:
            raise ConfigError(
                f"pool {self.name!r} is detached, and what {what} cannot be pickled for its next "
                f"owner: {error!r}; give it values that can be, such as paths in place of files"
            ) from error

    async def _announce(self, **changes: Any) -> None:
        """Leave word of what is about to be done, for a successor to go on with it.

        Whoever announces it does it before the next `await`.
        """
        if self._owner is None:
            return
        # The record that is left at each change says so too, until it is done: one that was made
        # while the keeper hears of this would take it back.
        self._announced.append(changes)
        try:
            # A keeper that is away now is told, or made anew, by whoever looks after it.
            with contextlib.suppress(MemberLost, CallTimeout):
                await self._owner.leave(*self._will())
        finally:
            self._announced.remove(changes)

    def recipe(self) -> Callable[[Cluster], Any]:
        """Return how to make this manager again, in another process; for detached pools.

        What is returned is pickled. A subclass whose constructor is another has to override it.
        """
        return functools.partial(
            make_again,
            type(self),
            self.name,
            policies=self.policies,
            notices=self._sources,
            detached=True,
            keep_s=self._keep_s,
        )

    # -- to stay, and to stop being, the owner --------------------------------------------------

    def _adopt(self, estate: Estate[InfoT]) -> None:
        """Go on with the members of an earlier owner; nothing of them is restarted."""
        assert self._tasks is not None
        self._slots = estate.slots
        self._generations.update(estate.generations)
        self._serial = estate.serial
        for slot in self._slots.values():
            member = slot.incarnation
            if member is not None:
                member.on_lost = functools.partial(self._note_fault, member)
                self._say_state(member, "its pool has a new owner")
                self._tasks.start_soon(self._bring_up, slot, member)
        for unfit in estate.unfit:
            self._tasks.start_soon(self._take_away, unfit)

    async def _take_away(self, unfit: Found) -> None:
        self.emit(EventKind.LEFTOVER, what=f"{unfit.identity}, which cannot be adopted")
        if unfit.actor is not None:
            self.cluster.kill(unfit.actor)
        if unfit.group is None:
            return
        try:
            await self.cluster.release(unfit.group)
        except Exception as error:
            self.emit(EventKind.LEFTOVER, what=f"the group of {unfit.identity}: {error!r}")

    async def _stay_owner(self, owner: Owner) -> None:
        try:
            await owner.keep_forever(
                self._will,
                self.policies.health.period_s,
                lambda trouble: self.emit(
                    EventKind.SOURCE_UNAVAILABLE, source="keeper", reason=trouble
                ),
            )
        except Fenced as error:
            self._lose(error)

    async def _await_successor(self, owner: Owner) -> None:
        later = await owner.wait_superseded()
        self._lose(Fenced(f"pool {self.name!r}", self.epoch, later))


def make_again(kind: type[Any], name: str, cluster: Cluster, **options: Any) -> Any:
    """Make a manager again; what recipes call."""
    return kind(name, cluster=cluster, **options)
