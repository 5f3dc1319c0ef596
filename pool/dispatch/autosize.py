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
from typing import Any, Protocol

import anyio

from pool.dispatch.job import check_function
from pool.errors import ConfigError, InfeasibleError, PoolClosed, SourceUnavailable
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
        ConfigError: The period is no time, or one of the others is something else.
    """

    def __init__(
        self, pool: Resizable, policy: ElasticPolicy, metric: Metric | None, period_s: float
    ) -> None:
        _check(policy, metric, period_s)
        self._pool = pool
        self._policy = policy
        self._metric = metric
        self._period_s = period_s
        self._state = ElasticState()
        self._said = ""
        self._is_blind = False
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
            except (InfeasibleError, SourceUnavailable) as error:
                self._state = before
                wanted, reason = size, f"{reason}, and it cannot be had: {error}"
        self._say(size, wanted, reason + trouble)

    async def _measure(self) -> tuple[float | None, str]:
        if self._metric is None:
            return self._pool.load, ""
        try:
            total = self._metric()
            if inspect.isawaitable(total):
                total = await total
            measured = None if total is None else _number(total)
        except Exception as error:
            if not self._is_blind:
                self._is_blind = True
                self._pool.emit(
                    EventKind.SOURCE_UNAVAILABLE, source="metric", reason=_in_words(error)
                )
            return None, f": {_in_words(error)}"
        self._is_blind = False
        return measured, ""

    def _say(self, size: int, wanted: int, reason: str) -> None:
        """Tell a decision, unless it is the last one with other figures."""
        kind = _NUMBER.sub("#", reason)
        if wanted != size or kind != self._said:
            self._said = kind
            self._pool.emit(EventKind.SIZE_DECIDED, size=size, wanted=wanted, reason=reason)


def _check(policy: object, metric: object, period_s: object) -> None:
    """Refuse what cannot be right, while whoever gave it is there to hear of it."""
    if not isinstance(policy, ElasticPolicy):
        raise ConfigError(
            f"policy is {policy!r}; give a pool.ElasticPolicy, as in ElasticPolicy(max_size=8), or "
            "None to leave the size as it is",
            "policy",
        )
    if type(period_s) not in (int, float) or not period_s > 0:  # type: ignore[operator]
        raise ConfigError(f"period_s is {period_s!r}; give more than 0 seconds", "period_s")
    wanted = "a function without arguments that returns the load of the whole pool"
    check_function("metric", metric, wanted)
    if callable(metric) and not _takes_nothing(metric):
        raise ConfigError(f"metric is {metric!r}, which needs arguments; give {wanted}", "metric")


def _takes_nothing(function: Callable[..., object]) -> bool:
    """Whether a function can be called without arguments, as far as it says."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return True
    try:
        signature.bind()
    except TypeError:
        return False
    return True


def _number(total: Any) -> float:
    """Return what a metric gave as a number; one of another package's, such as numpy's, too."""
    if isinstance(total, bool | str | bytes) or not hasattr(total, "__float__"):
        raise TypeError(f"it gave {total!r}, which is no number")
    return float(total)


def _in_words(error: Exception) -> str:
    # NB: repr() is the error's own, and may raise.
    try:
        return repr(error)
    except Exception:
        return type(error).__qualname__
