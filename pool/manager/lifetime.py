"""The block that a pool lives in: opening, closing, and closing in a hurry.

Whatever the block's end is, be it a return, an error, a cancellation or Ctrl-C, the members of the
pool are put down and nothing of it is left (INV-4); unless the pool was detached, or lost.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from pool.errors import ConfigError, PoolClosed
from pool.manager.events import EventKind
from pool.manager.haste import join
from pool.manager.ladder import Descent, put_down
from pool.manager.member import InfoT
from pool.manager.succession import Succession
from pool.planning.drain import Rung

CLOSE_MARGIN_S = 15.0
"""What closing may take beyond the ladder: its last rungs run even past the deadline."""
VERIFY_S = 5.0
"""How long the cluster's tables may lag behind the lifelines."""
VERIFY_AGAIN_S = 0.05


class Lifetime(Succession[InfoT]):
    """Open a pool, and close it whatever happens."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._outer: TaskGroup | None = None
        self._close_limit_s = math.inf
        self._first_rung = Rung.WORK
        self._ways: weakref.WeakSet[Descent] = weakref.WeakSet()
        self._leave_haste: Callable[[], None] = lambda: None

    @property
    def is_open(self) -> bool:
        """Whether the pool looks after its members."""
        return self._tasks is not None and self._closing_by is None

    async def __aenter__(self) -> Self:
        if self._outer is not None:
            raise PoolClosed(f"pool {self.name!r} was opened before; make a new one")
        # Shielded: a cancellation here would leave a keeper that nobody knows of.
        with anyio.CancelScope(shield=True):
            await self._become_owner()
        self._outer = anyio.create_task_group()
        await self._outer.__aenter__()
        # Shielded: a cancellation here would leave a task group that nobody leaves again.
        with anyio.CancelScope(shield=True):
            await self._outer.start(self._run)
        how = EventKind.POOL_OPENED if self._heritage is None else EventKind.POOL_ATTACHED
        self.emit(how, instance=self.instance, epoch=self.epoch)
        self._leave_haste = join(lambda run_hooks: self.hurry(run_hooks=run_hooks))
        return self

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

    def abandon(self) -> None:
        """Leave a detached pool without a word, as an owner that dies does.

        For when `detach` fails. Leaving the block then ends nothing; the keeper finds out that the
        owner is gone, and until then nobody else can own the pool without `takeover`.

        Raises:
            ConfigError: The pool was not made with `detached=True`, and ends with this process.
        """
        if self._owner is None:
            raise ConfigError(
                f"pool {self.name!r} would end with this process; make it with detached=True",
                "detached",
            )
        self._let_go = True
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

    def _check_open(self) -> None:
        if self._fenced is not None:
            raise self._fenced
        if self._let_go:
            raise PoolClosed(f"pool {self.name!r} was detached; attach({self.name!r}) to go on")
        if self._tasks is None or self._closing_by is not None:
            how = "is closed" if self._outer else "was not opened"
            raise PoolClosed(f"pool {self.name!r} {how}; use it inside `async with ... as pool:`")
