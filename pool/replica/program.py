"""`Program`: several pools that are one application, planned, brought up and drained together.

A program looks at the nodes once for all its roles and gives each pool its seats; the pools then
reserve, start and supervise as they always do. There is no second way of reserving, and after its
bring-up every role is an ordinary pool, to be scaled, rolled and looked at by itself.

Why not a pool of pools: each role has its own policies and its own desired size, and what one of
them does is no other's business, but for the nodes that they share and the moment they begin.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

import anyio

from pool.errors import ConfigError, InfeasibleError, PoolError, ProgramUnreachable
from pool.manager.arguments import check_timeout
from pool.manager.lifetime import CLOSE_MARGIN_S
from pool.manager.results import ScaleResult
from pool.manager.snapshot import PoolSnapshot
from pool.planning.placement import emptied
from pool.planning.program import ProgramPlan, plan_program
from pool.planning.resources import as_whole
from pool.planning.topology import Topology
from pool.replica.colocated_pool import ColocatedPool
from pool.replica.replica_pool import ReplicaPool

LOOK_AGAIN_S = 1.0
"""How long after a look at nodes without room the next one comes."""

Sizes = Mapping[str, int]


class Program:
    """Hold the pools of one application together: all roles get their place, or none.

    Use it as an async context manager, which opens its pools and drains them: those that live
    beside another before that one. Every role is there by its name: `program["rollout"]`.

    Args:
        *roles: The pools, not opened yet, each with a name of its own. The pool that a
            `ColocatedPool` lives beside has to be among them.

    Raises:
        ConfigError: There is none, one is no pool, two have one name, or a target is missing.
    """

    def __init__(self, *roles: ReplicaPool) -> None:
        given: Sequence[object] = roles
        for role in given:
            if not isinstance(role, ReplicaPool):
                raise ConfigError(
                    f"{role!r} is no ReplicaPool; give the pools of the roles", "roles"
                )
        self._roles = {role.name: role for role in roles}
        if not roles or len(self._roles) < len(roles):
            names = ", ".join(repr(role.name) for role in roles) or "nothing"
            raise ConfigError(f"the roles are {names}; give one or more, by unlike names", "roles")
        for role in self._colocated:
            if role.target not in roles:
                raise ConfigError(
                    f"role {role.name!r} lives beside {role.target.name!r}, which is no role of "
                    "this program; give that pool too",
                    "roles",
                )
        self._scaling = anyio.Lock()
        self._stack = AsyncExitStack()
        self._waits_for: dict[str, str] = {}

    @property
    def _colocated(self) -> list[ColocatedPool]:
        return [role for role in self._roles.values() if isinstance(role, ColocatedPool)]

    @property
    def _owners(self) -> list[ReplicaPool]:
        """The roles that have reservations of their own."""
        return [role for role in self._roles.values() if not isinstance(role, ColocatedPool)]

    def __getitem__(self, role: str) -> ReplicaPool:
        """Return the pool of a role.

        Raises:
            LookupError: There is none of that name.
        """
        if role not in self._roles:
            raise LookupError(f"there is no role {role!r}; there are {', '.join(self._roles)}")
        return self._roles[role]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the roles, in the order they were given."""
        return iter(self._roles)

    def __len__(self) -> int:
        """Return how many roles there are."""
        return len(self._roles)

    def snapshot(self) -> dict[str, PoolSnapshot]:
        """Return each role as it is now."""
        return {name: role.snapshot() for name, role in self._roles.items()}

    # -- the block -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for role in [*self._owners, *self._colocated]:
                await stack.enter_async_context(role)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            # All of them at once; the pools' own ends, one after the other, then find nothing left.
            with anyio.CancelScope(shield=True):
                if error is not None:
                    self.hurry(run_hooks=True)
                await self._bring_to(dict.fromkeys(self._roles, 0))
        finally:
            handled = await self._stack.__aexit__(kind, error, traceback)
        return handled

    def hurry(self, *, run_hooks: bool = False) -> None:
        """Wait for nobody who leaves any more; see `ReplicaPool.hurry`.

        Args:
            run_hooks: Whether to stop at the hooks: only the work in flight is not waited for.
        """
        for role in self._roles.values():
            role.hurry(run_hooks=run_hooks)

    # -- sizes ---------------------------------------------------------------------------------

    async def plan(self, sizes: Sizes) -> ProgramPlan:
        """Say where the roles would go now, or why they cannot; nothing is created.

        Args:
            sizes: Role to size, as with `scale`.

        Raises:
            ConfigError: A role is not there, or a size cannot be.
            InfeasibleError: The cluster could never hold them all.
        """
        return await self._plan(await self._complete(sizes))

    async def scale(
        self, sizes: Sizes, *, timeout_s: float | None = 600.0, wait_for_room: bool = True
    ) -> dict[str, ScaleResult]:
        """Bring roles to their sizes, all of them or none, and wait until they are there.

        Nothing is created before there is room for all. Then all reserve and start at once. When
        one fails, or the time is up, every role goes back to the size that it had: what was
        reserved is released, and nothing waits in the cluster. A role that somebody else has
        given another size meanwhile keeps that.

        Args:
            sizes: Role to size. Roles that are left out keep their size; those that live beside
                another follow it.
            timeout_s: Seconds for the whole: for an earlier `scale` of the program, for room,
                reservations and start; None waits for ever.
            wait_for_room: Whether to wait while others hold what the roles need; otherwise there
                has to be room now.

        Returns:
            What each role that was named, or follows one, reached.

        Raises:
            ConfigError: A role is not there, a size cannot be, or the time-out is no number of
                seconds; nothing was created.
            InfeasibleError: The cluster could never hold them all; nothing was created.
            ProgramUnreachable: The time is up, a role failed, or there is no room now. All are as
                they were.
            PoolClosed: The program is not open.

        Cancelling it brings the roles back to the sizes that they had, as a failure does.
        """
        check_timeout(timeout_s)
        missing = {"the program": "another scale of it was under way"}
        with anyio.move_on_after(math.inf if timeout_s is None else timeout_s):
            async with self._scaling:
                missing = {"the program": "its nodes were being looked at"}
                wanted = await self._complete(sizes)
                plan = await self._plan(wanted)
                missing = dict(plan.missing)
                if not (plan.is_complete or wait_for_room):
                    raise ProgramUnreachable(wanted, missing)
                async with self._all_or_none(wanted) as missing:
                    return await self._bring_up(wanted, await self._wait_for_room(wanted, plan))
        raise ProgramUnreachable(sizes, missing)

    @asynccontextmanager
    async def _all_or_none(self, wanted: Sizes) -> AsyncIterator[dict[str, str]]:
        """Bring roles back to the sizes that they had when the block is broken off.

        Yields what was missing then: role and slot to the reason.
        """
        before = {name: self._roles[name].desired for name in wanted}
        missing: dict[str, str] = {}
        try:
            yield missing
        except BaseException:
            missing |= self._waits_for or self._missing(wanted)
            # A size that somebody else gave a role meanwhile is theirs to keep.
            ours = {name: was for name, was in before.items() if self._is_at(name, wanted)}
            with anyio.CancelScope(shield=True):
                await self._bring_to(ours)
            raise
        finally:
            self._waits_for = {}
            for role in self._owners:
                role._take_seats(())

    def _is_at(self, name: str, sizes: Sizes) -> bool:
        return self._roles[name].desired == sizes[name]

    async def _wait_for_room(self, wanted: Sizes, plan: ProgramPlan) -> ProgramPlan:
        """Look at the nodes again and again, until there is room for all; return where."""
        self._waits_for = dict(plan.missing)
        while not plan.is_complete:
            await anyio.sleep(LOOK_AGAIN_S)
            plan = await self._plan(wanted)
            self._waits_for = dict(plan.missing)
        return plan

    @property
    def waits_for(self) -> Mapping[str, str]:
        """While `scale` waits for room: which role's slot has none, and why."""
        return self._waits_for

    async def _complete(self, sizes: Sizes) -> dict[str, int]:
        """Return the sizes, each as its role can have it, with those of the roles that follow."""
        wanted: dict[str, int] = {}
        if not sizes:
            raise ConfigError(f"sizes is empty; name any of {', '.join(self._roles)}", "sizes")
        for name, size in sizes.items():
            if name not in self._roles:
                raise ConfigError(
                    f"there is no role {name!r}; there are {', '.join(self._roles)}", "sizes"
                )
            wanted[name] = as_whole(size, f"sizes[{name!r}]")
        for each in self._owners:
            if each.name in wanted:
                [wanted[each.name]] = await each.check_size((wanted[each.name],))
        for role in self._colocated:
            target = role.target.name
            size = wanted.get(target, role.target.desired)
            if wanted.get(role.name, 0) not in (0, size):
                raise ConfigError(
                    f"role {role.name!r} is to have {wanted[role.name]} replicas, and "
                    f"{target!r}, which it lives beside, {size}; give them one size, or leave "
                    f"{role.name!r} out: it follows",
                    "sizes",
                )
            is_on = role.desired > 0 or not role.target.desired
            if target in wanted and is_on:
                wanted.setdefault(role.name, size)
        return wanted

    async def _plan(self, wanted: Sizes) -> ProgramPlan:
        """Look at the nodes, and plan all that is not there yet.

        Raises:
            InfeasibleError: All of it together could never be there.
        """
        asked = [role for role in self._owners if role.name in wanted]
        topology = await asked[0].cluster.topology() if asked else Topology(())
        # Those that are left out keep what they have, so they belong to the whole.
        whole = [
            role._ask_for(wanted.get(role.name, role.desired), more=False) for role in self._owners
        ]
        ever = plan_program(whole, emptied(topology))
        if not ever.is_complete:
            why = ever.reason.removesuffix(".")
            raise InfeasibleError(
                f"The roles of this program can never be there together: {why}.",
                topology.describe(),
            )
        return plan_program(
            [role._ask_for(wanted[role.name], more=True) for role in asked], topology
        )

    async def _bring_up(self, wanted: Sizes, plan: ProgramPlan) -> dict[str, ScaleResult]:
        """Give the pools their seats, scale all of them at once, and wait until they are there.

        Raises:
            ProgramUnreachable: One of them cannot be brought up.
        """
        for name, seats in plan.seats.items():
            self._roles[name]._take_seats(seats)
        reached: dict[str, ScaleResult] = {}
        trouble: dict[str, str] = {}
        ordered = [role for role in [*self._owners, *self._colocated] if role.name in wanted]
        for role in ordered:
            # Targets come first, so that whoever lives beside one is asked for the same size.
            await role.resize(wanted[role.name], "its program is scaled")
        async with anyio.create_task_group() as tasks:

            async def bring_up(role: ReplicaPool) -> None:
                try:
                    result = await role.scale(wanted[role.name], timeout_s=None)
                except PoolError as error:
                    trouble[f"role {role.name}"] = str(error)
                else:
                    reached[role.name] = result
                    if not (result.is_complete or result.superseded):
                        trouble.update(self._missing([role.name]))
                if trouble:
                    tasks.cancel_scope.cancel()

            for role in ordered:
                tasks.start_soon(bring_up, role)
        if trouble:
            raise ProgramUnreachable(wanted, trouble)
        return reached

    def _missing(self, names: Iterable[str]) -> dict[str, str]:
        """Return why slots of these roles are not ready."""
        return {
            f"role {name}, slot {slot.index}": slot.reason
            for name in names
            for slot in self._roles[name].snapshot().slots
            if slot.rank is not None and (slot.member is None or not slot.member.state.is_serving)
        }

    async def _bring_to(self, sizes: Sizes) -> None:
        """Bring roles to sizes, all at once but for who waits for whom."""

        async def bring(role: ReplicaPool, size: int) -> None:
            # A pool that is closed, lost, or that gave up is as it is.
            with contextlib.suppress(PoolError):
                await role.scale(size, timeout_s=role.policies.drain.timeout_s + CLOSE_MARGIN_S)

        # Those that are to be there follow their targets' sizes; those that are not go first.
        leaving = [role for role in self._colocated if not sizes.get(role.name)]
        for level in (leaving, self._owners, self._colocated):
            async with anyio.create_task_group() as tasks:
                for role in level:
                    if role.name in sizes:
                        tasks.start_soon(bring, role, sizes[role.name])
