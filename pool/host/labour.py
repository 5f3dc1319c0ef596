"""How jobs are done in a member: several small ones in one call, each with its own outcome.

One call to an actor costs more than many functions take. So a caller may send several jobs at
once. Plain functions then run one after the other in one thread, async ones beside each other. A
job that takes long does not hold up those behind it: they are handed back as not begun.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pool.errors import RemoteError

SHIFT_S = 0.005
"""When jobs that came together have taken so long, those not yet begun are handed back."""

Outcomes = list[Any]
Shift = tuple[float, Outcomes]
"""Seconds of work, and what came of each job that was begun: a value, or a `Failure`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Hold what a job raised.

    Args:
        error: The exception, in a form that arrives.
        trace: Its traceback, as text.
    """

    error: Exception
    trace: str


async def labour(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
    sendable: Callable[[Exception], Exception],
) -> Shift:
    """Do jobs, and return what came of each that was begun.

    Args:
        function: What to call.
        jobs: The arguments of each call.
        in_thread: Runs plain code in a thread.
        sendable: Makes an exception one that arrives.
    """
    clock = asyncio.get_running_loop().time
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        began = clock()
        works = [_attempt(function, job, sendable) for job in jobs]
        outcomes = [await works[0]] if len(works) == 1 else list(await asyncio.gather(*works))
        took_s = clock() - began
    else:
        # NB: timed in the thread: on a busy machine the way there takes longer than the work.
        took_s, outcomes = await in_thread(lambda: _in_turn(function, jobs, clock, sendable))
        for number, outcome in enumerate(outcomes):
            if inspect.isawaitable(outcome) or inspect.isasyncgen(outcome):
                outcomes[number] = await _attempt(lambda it=outcome: it, (), sendable)
    return took_s, outcomes


def _in_turn(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    clock: Callable[[], float],
    sendable: Callable[[Exception], Exception],
) -> Shift:
    began = clock()
    outcomes: Outcomes = []
    for job in jobs:
        try:
            result = function(*job)
            outcomes.append(list(result) if inspect.isgenerator(result) else result)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            outcomes.append(_failure(error, sendable))
        if clock() - began > SHIFT_S:
            break
    return clock() - began, outcomes


async def _attempt(
    function: Callable[..., Any],
    job: tuple[Any, ...],
    sendable: Callable[[Exception], Exception],
) -> Any:
    try:
        result = function(*job)
        if inspect.isasyncgen(result):
            return [each async for each in result]
        return await result
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return _failure(error, sendable)


def _failure(
    error: Exception | SystemExit | KeyboardInterrupt, sendable: Callable[[Exception], Exception]
) -> Failure:
    trace = _trace(error)
    if not isinstance(error, Exception):
        return Failure(_told(error), trace)
    return Failure(sendable(error), trace)


@contextmanager
def staying() -> Iterator[None]:
    """Let nothing in the block end the process that it runs in.

    Raises:
        RemoteError: The code in it asked for that, as `sys.exit` does.
    """
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as error:
        raise _told(error, _trace(error)) from None


def _told(error: SystemExit | KeyboardInterrupt, trace: str = "") -> RemoteError:
    """Return what arrives in place of an exception that would end a process.

    A member that ended so would be taken for one that crashed, and long after.
    """
    # Of the main thread a Ctrl-C is a person's, as in a simulation. Members work in other threads.
    if isinstance(error, KeyboardInterrupt) and _is_main_thread():
        raise error
    kind = type(error)
    way = ", as sys.exit() does" if isinstance(error, SystemExit) else ""
    said = f"the code raised {error!r}{way}; its process goes on: return, or raise an error"
    return RemoteError(f"{kind.__module__}.{kind.__qualname__}", said, trace)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).strip()
