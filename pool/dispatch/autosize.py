"""A pool's size follows its load: measured now and then, decided by the planner, and told.

What the size should be is decided by `pool.planning.elastic`, from votes; this measures, and acts.
Whatever is to be told to an autoscaler beyond the groups that wait belongs where the pool takes the
size over, in `Resizable.resize`: one place, whoever decided.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from pool.errors import ConfigError, InfeasibleError, PoolClosed
from pool.manager.events import EventKind, EventLog
from pool.planning.elastic import ElasticPolicy, ElasticState, Load, plan_size

Metric = Callable[[], float | Awaitable[float | None] | None]
"""Returns the load of a whole pool; None when it cannot be measured."""

_NUMBER = re.compile(r"[\d.e+-]+")


class Resizable(Protocol):
    """Be a pool whose size can be changed."""

    emit: EventLog

    @property
    def desired(self) -> int:
        """The size that it is meant to have."""
        ...

    @property
    def load(self) -> int:
        """Calls in flight, and those that wait."""
        ...

    async def resize(self, size: int, reason: str) -> None:
        """Bring it to a size, without waiting for that."""


class Autosizer:
    """Let one pool's size follow its load.

    Args:
        pool: The pool.
        policy: Between which sizes, and how readily.
        metric: Measures the load; the pool's own by default.
        period_s: Seconds between measurements.

    Raises:
        ConfigError: The period is no time.
    """

    def __init__(
        self, pool: Resizable, policy: ElasticPolicy, metric: Metric | None, period_s: float
    ) -> None:
        if not period_s > 0:
            raise ConfigError(f"period_s is {period_s!r}; give more than 0 seconds", "period_s")
        self._pool = pool
        self._policy = policy
        self._metric = metric
        self._period_s = period_s
        self._state = ElasticState()
        self._said = ""
        self._scope = anyio.CancelScope()

    def stop(self) -> None:
        """Leave the size as it is."""
        self._scope.cancel()

    async def run(self) -> None:
        """Measure and decide until stopped, or the pool is closed."""
        with self._scope:
            while True:
                try:
                    await self._decide()
                except PoolClosed:
                    return
                await anyio.sleep(self._period_s)

    async def _decide(self) -> None:
        total, trouble = await self._measure()
        pool = self._pool
        now = asyncio.get_running_loop().time()
        size = pool.desired
        before = self._state
        self._state, wanted, reason = plan_size(self._policy, before, Load(size, total), now)
        if wanted != size:
            try:
                await pool.resize(wanted, reason)
            except InfeasibleError as error:
                self._state = before
                wanted, reason = size, f"{reason}, and it cannot be had: {error}"
        self._say(size, wanted, reason + trouble)

    async def _measure(self) -> tuple[float | None, str]:
        if self._metric is None:
            return self._pool.load, ""
        try:
            total = self._metric()
            return (await total if inspect.isawaitable(total) else total), ""
        except Exception as error:
            return None, f": {error!r}"

    def _say(self, size: int, wanted: int, reason: str) -> None:
        """Tell a decision, unless it is the last one with other figures."""
        kind = _NUMBER.sub("#", reason)
        if wanted != size or kind != self._said:
            self._said = kind
            self._pool.emit(EventKind.SIZE_DECIDED, size=size, wanted=wanted, reason=reason)
