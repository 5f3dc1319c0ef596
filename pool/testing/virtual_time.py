"""An event loop whose clock jumps: days pass in seconds, and one seed gives one run.

The loop's time is a number. When nothing is ready, it is set to the next timer's, and nobody
sleeps. `anyio.sleep`, `anyio.fail_after`, `asyncio.wait_for` and all else that asks the loop for
the time work unchanged, and while the loop runs `time.monotonic` and `time.time` tell its time,
too.

Three things make a run repeatable to the byte, beside the seed: tasks and cancel scopes are hashed
by the order in which they were made (sets of them are walked when scopes are cancelled), functions
for threads are run at once on the loop, and real threads and sockets are refused.

A *life* stands for a process: all callbacks, timers and tasks of a context belong to it, and when
it ends none of them runs any more, not even a `finally`, as after `kill -9`. The obvious
alternative, cancelling the tasks, lets the dead clean up after themselves.

Limits: code that blocks (`time.sleep`) blocks in real time. Only asyncio's own scheduling is
deterministic: iterating over a set of strings is not, unless PYTHONHASHSEED is fixed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import math
import random
import selectors
import threading
import time
import weakref
from asyncio import events
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import Context, ContextVar, copy_context
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from pool.errors import ConfigError, PoolError

T = TypeVar("T")

EPOCH_S = 1_700_000_000.0
"""What `time.time` says when a loop's time is 0."""
SPINS_MAX = 100_000
"""Rounds of the loop at one moment before it is called a busy loop."""
CLEANUP_S = 86_400.0
"""Virtual seconds that cancelled tasks may take to end when the loop is closed."""


class SimulationError(PoolError):
    """Say that a run in virtual time cannot go on."""


class Deadlock(SimulationError):
    """Say that nothing is ready and nothing is scheduled, and who waits for what."""


class TimeLimit(SimulationError):
    """Say that the run would go beyond the virtual time that it was given."""


class BusyLoop(SimulationError):
    """Say that the loop goes round and round without time passing."""


class RealWorld(SimulationError):
    """Say that something asked for a real thread or a real socket."""


class Life:
    """Stand for a process. What runs in a context with `life` set ends with it, at once."""

    __slots__ = ("ended", "frozen", "parked")

    def __init__(self) -> None:
        self.ended = False
        self.frozen = False
        self.parked: deque[asyncio.Handle] = deque()

    @property
    def stands(self) -> bool:
        """Whether nothing of it runs: it has ended, or is stopped for a while."""
        return self.ended or self.frozen


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)
"""The process that the running code belongs to; None for what cannot be killed."""


class _Task(asyncio.Task[Any]):
    """A task that is hashed by its number, so that sets of tasks have one order."""

    def __init__(self, number: int, life: Life | None, coro: Any, **options: Any) -> None:
        self.number = number
        self.life = life
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number

    @property
    def is_dead(self) -> bool:
        """Whether its process has ended."""
        return self.life is not None and self.life.ended


class _Jump(selectors.BaseSelector):
    """Be asked where a loop would sleep, and jump instead."""

    def __init__(self, turn: Callable[[float | None], None]) -> None:
        self._turn = turn
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turn(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self._keys:
            raise RealWorld(
                "a socket or pipe was to be watched, and nothing real happens in virtual time; "
                "put a fake in its place"
            )
        # The loop's own pipe to itself is the first that is registered, and is never written to.
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Run callbacks and tasks in virtual time.

    Args:
        limit_s: The time beyond which `TimeLimit` is raised.
    """

    def __init__(self, limit_s: float = math.inf) -> None:
        self._now = 0.0
        self._spins = 0
        self._stranger: str | None = None
        self._numbers = itertools.count()
        self.limit_s = limit_s
        self.lives: list[Life] = []
        self.stalled_s = 0.0
        self.stalled_until = -math.inf
        super().__init__(_Jump(self._turn))
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Return the virtual time, in seconds from the loop's beginning."""
        return self._now

    def stall(self, duration_s: float) -> None:
        """Let time pass in which nothing runs, as when the whole process is stopped."""
        self._now += duration_s
        self.stalled_s += duration_s
        self.stalled_until = self._now

    def new_life(self) -> Life:
        """Begin a process; `end_life` ends it."""
        life = Life()
        self.lives.append(life)
        return life

    def end_life(self, life: Life) -> None:
        """End a process: nothing of it runs any more."""
        life.ended = True

    def freeze_life(self, life: Life) -> None:
        """Stop a process, as SIGSTOP does: what is due meanwhile waits for `thaw_life`."""
        life.frozen = True

    def thaw_life(self, life: Life) -> None:
        """Let a process go on, with all that was due meanwhile, in its order."""
        life.frozen = False
        if not life.ended:
            self._unpark(life)

    def _unpark(self, life: Life) -> None:
        while life.parked:
            handle = life.parked.popleft()
            if not handle.cancelled():
                self._ready.append(handle)  # type: ignore[attr-defined]

    # -- what asyncio calls -------------------------------------------------------------------

    def _turn(self, timeout: float | None) -> None:
        if self._stranger is not None:
            name, self._stranger = self._stranger, None
            raise RealWorld(f"thread {name} called into the loop; {_NO_THREADS}")
        if timeout == 0:
            self._spins += 1
            if self._spins > SPINS_MAX:
                self._spins = 0
                raise BusyLoop(
                    f"{SPINS_MAX} rounds at {self._now:g} s without time passing. "
                    f"Tasks:\n{self.waiting()}"
                )
            return
        self._spins = 0
        if timeout is None:
            raise Deadlock(
                f"at {self._now:g} s nothing is ready and nothing is scheduled, so nothing will "
                f"ever happen. Waiting:\n{self.waiting()}"
            )
        # NB: the time-out is a difference of floats; the timer itself knows exactly.
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        due = scheduled[0].when()
        if due > self.limit_s:
            raise TimeLimit(
                f"not done after {self.limit_s:g} virtual seconds. Waiting:\n{self.waiting()}"
            )
        self._now = max(self._now, due)
        # Timers count as due up to this much early; less than a float's own step would be never.
        self._clock_resolution = max(1e-9, 2 * math.ulp(self._now))

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if context is None:
            context = copy_context()
        life = context.get(LIFE)
        if life is None or not life.stands:
            return super().call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        life.parked.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if context is None:
            context = copy_context()
        life = context.get(LIFE)
        if life is None:
            return super().call_at(when, callback, *args, context=context)
        timers: list[weakref.ref[asyncio.TimerHandle]] = []
        timer = super().call_at(when, self._if_alive, life, callback, args, timers, context=context)
        # NB: weak, for a timer that held itself would wait for the garbage collector.
        timers.append(weakref.ref(timer))
        return timer

    def _if_alive(
        self,
        life: Life,
        callback: Callable[..., object],
        args: Any,
        timers: list[weakref.ref[asyncio.TimerHandle]],
    ) -> None:
        if life.stands:
            late = (timers[0], callback, args)
            life.parked.append(asyncio.Handle(_unless_cancelled, late, self, copy_context()))
        else:
            callback(*args)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != getattr(self, "_thread_id", None):
            self._stranger = threading.current_thread().name
            raise RealWorld(_NO_THREADS)
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """Run the function now, on the loop: real threads would come and go as they like."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _make_task(self, _: Any, coro: Any, **options: Any) -> _Task:
        context = options.get("context")
        life = LIFE.get() if context is None else context.get(LIFE)
        return _Task(next(self._numbers), life, coro, loop=self, **options)

    # -- what is going on ---------------------------------------------------------------------

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, in the order in which they were made."""
        return sorted(asyncio.all_tasks(self), key=hash)

    def waiting(self) -> str:
        """Return a line for each task: its name, and the innermost await it waits at."""
        lines = [
            f"  {task.get_name()}: {_innermost(task)}"
            for task in self.tasks()
            if not (isinstance(task, _Task) and task.is_dead)
        ]
        return "\n".join(
            lines[:WAITING_SHOWN]
            + ([f"  and {len(lines) - WAITING_SHOWN} more"] if len(lines) > WAITING_SHOWN else [])
        )


WAITING_SHOWN = 40
_NO_THREADS = "real threads do not go with virtual time; use run_in_executor or anyio.to_thread"


def _unless_cancelled(
    timer: weakref.ref[asyncio.TimerHandle], callback: Callable[..., object], args: Any
) -> None:
    """Run what was due while its process stood still, unless it is not wanted any more."""
    handle = timer()
    if handle is None or not handle.cancelled():
        callback(*args)


def _innermost(task: asyncio.Task[Any]) -> str:
    coro: Any = task.get_coro()
    chain = []
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
        if frame is not None:
            chain.append(f"{frame.f_code.co_qualname} line {frame.f_lineno}")
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
    return " < ".join(reversed(chain)) or "not begun"


class VirtualTime:
    """Hold a loop in virtual time, to be run step by step; a context manager.

    Args:
        seed: Seeds `random` for the time that the loop runs; outside, `random` is as it was.
        limit_s: Virtual seconds after which `TimeLimit` is raised.

    Raises:
        ConfigError: `limit_s` is not more than 0.
    """

    def __init__(self, *, seed: int = 0, limit_s: float = math.inf) -> None:
        if not limit_s > 0:
            raise ConfigError(f"limit_s is {limit_s!r}; give more than 0 seconds", "limit_s")
        self.loop = VirtualTimeLoop(limit_s)
        self._random = random.Random(seed).getstate()
        self._numbers: dict[int, int] = {}
        self._scopes: type[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def now(self) -> float:
        """The virtual time, in seconds."""
        return self.loop.time()

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run until `main` has returned; other tasks stay where they are."""
        if self._scopes is None:
            self._scopes = self._run(_scope_class())
        return self._run(_awaited(main))

    def advance(self, duration_s: float) -> None:
        """Let so many seconds pass."""
        self.run(functools.partial(asyncio.sleep, duration_s))

    def close(self) -> None:
        """Cancel what still runs, wait for its end in virtual time, and close the loop.

        Raises:
            SimulationError: A task did not end.
        """
        if self.loop.is_closed():
            return
        for life in self.loop.lives:
            if life.frozen:
                self.loop.thaw_life(life)
        try:
            self._finish(lambda task: not task.is_dead)
        finally:
            # The dead get to run their `finally` blocks now, where nobody sees it; Python would do
            # it while it collects the garbage, and complain.
            for life in self.loop.lives:
                life.ended = life.frozen = False
                self.loop._unpark(life)
            try:
                self._finish(lambda task: True)
            except SimulationError:
                for task in self.loop.tasks():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
            with self._illusion():
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _finish(self, chosen: Callable[[_Task], bool]) -> None:
        tasks = [task for task in self.loop.tasks() if isinstance(task, _Task) and chosen(task)]
        if not tasks:
            return
        self.loop.limit_s = self.now + CLEANUP_S
        for task in tasks:
            task.cancel()

        async def all_done() -> None:
            # NB: a process may end another one on its way out, whose tasks then never end.
            while left := [task for task in tasks if not task.done() and not task.is_dead]:
                await asyncio.wait(left, timeout=1)

        self._run(all_done())
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()

    def _run(self, coro: Coroutine[Any, Any, T]) -> T:
        with self._illusion():
            return self.loop.run_until_complete(coro)

    @contextmanager
    def _illusion(self) -> Iterator[None]:
        """Make the world outside the loop go along with its time, while the loop runs."""
        loop, outside = self.loop, random.getstate()
        random.setstate(self._random)
        patches: list[tuple[object, str, object]] = [
            (time, "monotonic", loop.time),
            (time, "time", lambda: EPOCH_S + loop.time()),
            (anyio.to_thread, "run_sync", _run_sync),
        ]
        if self._scopes is not None:
            numbers, count, make = self._numbers, loop._numbers, self._scopes.__init__

            def init(scope: Any, *args: Any, **options: Any) -> None:
                numbers[id(scope)] = next(count)
                make(scope, *args, **options)

            patches += [
                (self._scopes, "__init__", init),
                (self._scopes, "__hash__", lambda scope: numbers.get(id(scope), 0)),
            ]
        try:
            with ExitStack() as stack:
                for owner, name, value in patches:
                    # `__hash__` is inherited, and is put back as its own; that is the same.
                    stack.callback(setattr, owner, name, getattr(owner, name))
                    setattr(owner, name, value)
                yield
        finally:
            self._random = random.getstate()
            random.setstate(outside)


def run(main: Callable[[], Awaitable[T]], *, seed: int = 0, limit_s: float = math.inf) -> T:
    """Run an async function in virtual time, and return its result.

    Args:
        main: The function; use `functools.partial` for arguments.
        seed: Seeds `random` while it runs.
        limit_s: Virtual seconds that it may take.

    Raises:
        Deadlock: Nothing is ready and nothing is scheduled.
        TimeLimit: It is not done after `limit_s` virtual seconds.
        RealWorld: Something asked for a real thread or socket.
        SimulationError: A task did not end when it was cancelled at the end.

    Tasks that `main` leaves behind are cancelled, and waited for.
    """
    with VirtualTime(seed=seed, limit_s=limit_s) as virtual:
        return virtual.run(main)


def current_loop() -> VirtualTimeLoop:
    """Return the running loop.

    Raises:
        ConfigError: It is not one in virtual time.
    """
    loop = events.get_running_loop()
    if not isinstance(loop, VirtualTimeLoop):
        raise ConfigError(
            "the simulation needs an event loop in virtual time; start it with pool.testing.run"
        )
    return loop


async def _awaited(main: Callable[[], Awaitable[T]]) -> T:
    return await main()


async def _scope_class() -> type[Any]:
    return type(anyio.CancelScope())


async def _run_sync(func: Callable[..., Any], *args: Any, **options: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    result = func(*args)
    assert not inspect.isawaitable(result), "anyio.to_thread is for plain functions"
    return result
