"""Ask a probe until it holds, or for as long as it holds.

Who asks has to be on time: an event loop that ran late has not listened, and what it missed proves
nothing about the process (INV-9). So a metronome ticks while an answer is waited for, and adds up
how late its ticks come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from pool.errors import SourceUnavailable
from pool.planning import health
from pool.process.probes import Probe, Site

FIRST_PAUSE_S = 0.05
PAUSE_MAX_S = 1.0
PAUSE_FACTOR = 1.5
"""A process that is ready soon is found ready soon, and one that loads for minutes costs little."""
LATE_SHARE = 0.25
"""A loop that is late by more than this share of the time-out has eaten into the answer's time."""
TICK_SHARE = 0.1
"""The metronome's period, as a share of the time-out."""


async def until_ready(probe: Probe, site: Site, timeout_s: float) -> str:
    """Ask until the probe holds.

    Args:
        probe: What is asked.
        site: The process.
        timeout_s: Seconds after which it is given up.

    Returns:
        Nothing if it holds; else what was last seen.
    """
    until = asyncio.get_running_loop().time() + timeout_s
    pause_s, seen = FIRST_PAUSE_S, ""
    while True:
        left_s = until - asyncio.get_running_loop().time()
        if left_s <= 0:
            return seen or "nothing: it was never asked"
        try:
            async with asyncio.timeout(left_s):
                now = await probe.check(site, left_s)
        except TimeoutError as error:
            now = str(error) or seen or "no answer"
        except SourceUnavailable as error:
            now = f"it could not ask: {error}"
        except Exception as error:
            now = f"it raised {error!r}"
        if not now:
            return ""
        seen = now
        await asyncio.sleep(min(pause_s, max(until - asyncio.get_running_loop().time(), 0)))
        pause_s = min(pause_s * PAUSE_FACTOR, PAUSE_MAX_S)


async def while_alive(
    probe: Probe,
    site: Site,
    policy: health.HealthPolicy,
    tell: Callable[[health.Verdict, str], None],
) -> str:
    """Ask for as long as the process is alive.

    Args:
        probe: What is asked.
        site: The process, which got ready now.
        policy: How often, and how many failures in a row end it.
        tell: Is told each verdict, and why.

    Returns:
        Why it is not alive.
    """
    loop = asyncio.get_running_loop()
    ready_since = loop.time()
    record = health.HealthRecord()
    overslept_s = 0.0
    while True:
        began = loop.time()
        answer = await _ask(probe, site, policy.timeout_s, overslept_s)
        record, verdict, why = health.judge(
            record, answer, policy, now=loop.time(), ready_since=ready_since
        )
        tell(verdict, why)
        if verdict is health.Verdict.FAILED:
            return why
        due = max(began + policy.period_s, loop.time())
        await asyncio.sleep(due - loop.time())
        overslept_s = loop.time() - due


async def _ask(probe: Probe, site: Site, timeout_s: float, overslept_s: float) -> health.Probe:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with _Metronome(timeout_s * TICK_SHARE) as metronome:
        try:
            async with asyncio.timeout(timeout_s):
                seen = await probe.check(site, timeout_s)
        except TimeoutError as error:
            late = max(overslept_s, metronome.late_s, loop.time() - began - timeout_s)
            is_late = late > timeout_s * LATE_SHARE
            kind = health.ProbeKind.LATE if is_late else health.ProbeKind.TIMEOUT
            return health.Probe(kind, str(error) or f"no answer in {timeout_s:g} s")
        except SourceUnavailable as error:
            return health.Probe(health.ProbeKind.UNAVAILABLE, str(error))
        except Exception as error:
            seen = f"the probe raised {error!r}"
    return health.Probe(health.ProbeKind.ILL if seen else health.ProbeKind.OK, seen)


class _Metronome:
    """Tick while it is entered, and add up how late the ticks come."""

    def __init__(self, period_s: float) -> None:
        self.late_s = 0.0
        self._period_s = period_s
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._wind_up()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _wind_up(self) -> None:
        due = self._loop.time() + self._period_s
        self._timer = self._loop.call_at(due, self._tick, due)

    def _tick(self, due: float) -> None:
        self.late_s += max(0.0, self._loop.time() - due)
        self._wind_up()
