"""Who tells a pool to hurry from outside: the block that it is opened in, when that is stopped.

A block that a signal can stop knows nothing of the pools inside of it, and they may be opened by
any of its tasks, or on another thread's event loop. So it puts itself into a context variable,
which tasks and threads inherit, and pools join what they find there.

Why not a list of all pools of the process: those outside of the block are not being left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Hurry = Callable[[bool], object]
"""Hurries a pool, given whether its hooks are to run."""


class Haste:
    """Hurry the pools that were opened in a block, and those that are opened there later.

    Args:
        outer: The same of the block around it; its pools are that block's as well.
        on_open: Is called whenever a pool is opened, on the thread that opens it.
    """

    def __init__(self, outer: Haste | None, on_open: Callable[[], None]) -> None:
        self._outer = outer
        self._on_open = on_open
        self._hurries: dict[object, Hurry] = {}
        self._told: bool | None = None

    def call(self, *, run_hooks: bool) -> None:
        """Hurry them; see `ResourcePoolManager.hurry`. It does not block.

        It may be called on any thread, and by a signal handler.
        """
        # A call that runs no hooks may have come in between, and stands.
        self._told = run_hooks and self._told is not False
        for hurry in list(self._hurries.values()):
            hurry(run_hooks)

    def tell(self) -> None:
        """Hear that a pool is being opened."""
        self._on_open()
        if self._outer is not None:
            self._outer.tell()

    def add(self, key: object, hurry: Hurry) -> None:
        """Take a pool in; `hurry` may be called on any thread."""
        self._hurries[key] = hurry
        if self._told is not None:
            hurry(self._told)
        if self._outer is not None:
            self._outer.add(key, hurry)

    def remove(self, key: object) -> None:
        """Let a pool go that has closed."""
        self._hurries.pop(key, None)
        if self._outer is not None:
            self._outer.remove(key)


_here: ContextVar[Haste | None] = ContextVar("pool_haste", default=None)


@contextmanager
def haste(on_open: Callable[[], None]) -> Iterator[Haste]:
    """Have all pools that are opened during the block join."""
    made = Haste(_here.get(), on_open)
    token = _here.set(made)
    try:
        yield made
    finally:
        _here.reset(token)


def announce() -> None:
    """Tell the block that this is in, if in any, that a pool is being opened here."""
    if (found := _here.get()) is not None:
        found.tell()


def join(hurry: Hurry) -> Callable[[], None]:
    """Let the pool that is opened here be hurried by the block that it is in, if in any.

    Args:
        hurry: Hurries the pool; called on this event loop.

    Returns:
        A function that ends it.
    """
    found = _here.get()
    if found is None:
        return lambda: None
    found.tell()
    key = object()
    loop = asyncio.get_running_loop()
    found.add(key, lambda run_hooks: loop.call_soon_threadsafe(hurry, run_hooks))
    return lambda: found.remove(key)
