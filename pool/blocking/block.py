"""A block around a pool, or several, for code that blocks: a loop in a thread, entered and left.

The pool lives on an event loop in a thread of its own; each call is handed over to it and waited
for. Ctrl-C interrupts the wait and cancels the call, and leaving the block drains the pool as ever.
A second Ctrl-C, while that goes on, hurries it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from anyio.from_thread import BlockingPortal, start_blocking_portal

from pool.errors import ConfigError, PoolClosed
from pool.manager.haste import announce

T = TypeVar("T")


class Hurried(Protocol):
    """Be a pool, or several, as far as leaving it is concerned."""

    def hurry(self, *, run_hooks: bool = False) -> None:
        """Wait for nobody who leaves any more."""
        ...


MadeT = TypeVar("MadeT", bound=Hurried)


class Block(Generic[MadeT]):
    """Hold what was made on an event loop of its own, from `__enter__` to `__exit__`."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[MadeT]], how: str) -> None:
        self._make = make
        self._how = how
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._made: MadeT | None = None

    def __enter__(self) -> Self:
        _check_no_loop()
        announce()  # On the main thread, where a block that catches signals can act on it.
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            inside = self._portal.wrap_async_context_manager(self._portal.call(self._make))
            self._made = stack.enter_context(_Opened(inside, self._portal))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return self._stack.__exit__(kind, error, traceback)
        finally:
            self._portal = None

    def _open(self) -> tuple[MadeT, BlockingPortal]:
        if self._made is None or self._portal is None:
            raise PoolClosed(self._how)
        return self._made, self._portal

    @overload
    def _call(self, ask: Callable[[MadeT], Coroutine[Any, Any, T]]) -> T: ...

    @overload
    def _call(self, ask: Callable[[MadeT], T]) -> T: ...

    def _call(self, ask: Callable[[MadeT], Any]) -> Any:
        """Have the loop do something, and wait for it; what breaks the wait cancels it."""
        made, portal = self._open()
        future = portal.start_task_soon(ask, made)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _check_no_loop() -> None:
    """Refuse to hold an event loop up, and with it all that runs on it.

    Raises:
        ConfigError: One runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if "ipykernel" in sys.modules:
        return  # A notebook's cell holds the loop of its kernel up, whatever it does.
    raise ConfigError(
        "an event loop runs in this thread, and a pool that blocks would hold it up; use "
        "`async with pool.ReplicaPool(...) as replicas:` here, or call what blocks in a thread, as "
        "with `await asyncio.to_thread(...)`"
    )


class _Opened(Generic[MadeT]):
    """Leave the pool's block, and hurry when the wait for that is broken, as by Ctrl-C."""

    def __init__(
        self,
        inside: AbstractContextManager[MadeT],
        portal: BlockingPortal,
    ) -> None:
        self._made: MadeT | None = None
        self._inside = inside
        self._portal = portal

    def __enter__(self) -> MadeT:
        self._made = self._inside.__enter__()
        return self._made

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        ended_well = error is None

        def leave() -> bool | None:
            return self._inside.__exit__(kind, error, traceback)

        try:
            return leave()
        except BaseException:
            # The wait was broken off; or it is the pool's own error, and raised again below.
            self._wait_on(leave, run_hooks=ended_well)
            raise

    def _wait_on(self, leave: Callable[[], bool | None], *, run_hooks: bool) -> None:
        made = self._made
        assert made is not None
        self._portal.call(lambda: made.hurry(run_hooks=run_hooks))
        try:
            leave()
        except BaseException:
            if run_hooks:
                self._wait_on(leave, run_hooks=False)
            raise
