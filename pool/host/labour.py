"""How jobs are done in a member: several small ones in one call, each with its own outcome.

One call to an actor costs more than many functions take. So a caller may send several jobs at
once. Plain functions then run one after the other in one thread, async ones beside each other. A
job that takes long does not hold up those behind it: they are handed back as not begun.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
        except Exception as error:
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
    except Exception as error:
        return _failure(error, sendable)


def _failure(error: Exception, sendable: Callable[[Exception], Exception]) -> Failure:
    trace = "".join(traceback.format_exception(error)).strip()
    return Failure(sendable(error), trace)
