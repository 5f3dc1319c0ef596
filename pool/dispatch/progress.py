"""How far a map is, shown: a bar in a terminal or a notebook, log lines elsewhere, or a call.

The bar is rich's, which is imported only when there is one to be shown.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pool.log import Word, say

BAR_PERIOD_S = 0.2
LOG_PERIOD_S = 10.0

Report = Callable[[Mapping[str, int]], object]
ProgressTo = bool | str | Report
"""Whether to show it; under which name; or whom to call with the counts."""


class Display(Protocol):
    """Show counts."""

    period_s: float

    def show(self, counts: Mapping[str, int]) -> None:
        """Show how far it is."""

    def end(self) -> None:
        """Show nothing more."""


class Progress:
    """Show counts from time to time, and once at the end.

    Args:
        display: Where.
        ask: Returns the counts of now.
    """

    def __init__(self, display: Display, ask: Callable[[], Mapping[str, int]]) -> None:
        self._display = display
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._tick()

    def _tick(self) -> None:
        self._display.show(self._ask())
        self._timer = self._loop.call_later(self._display.period_s, self._tick)

    def end(self, counts: Mapping[str, int]) -> None:
        """Show the last counts."""
        if self._timer is not None:
            self._timer.cancel()
        self._display.show(counts)
        self._display.end()


def progress_for(
    to: ProgressTo, total: int | None, ask: Callable[[], Mapping[str, int]]
) -> Progress | None:
    """Begin to show progress as the user wants it.

    Args:
        to: False for nothing, True, the name to be shown, or a function that is called with the
            counts.
        total: How many items there are; None when nobody knows.
        ask: Returns the counts of now.
    """
    if to is False:
        return None
    if callable(to):
        return Progress(_Called(to), ask)
    name = to if isinstance(to, str) else "map"
    display: Display = Bar(name, total) if is_watched() else Lines(name, total, _now())
    return Progress(display, ask)


def _now() -> float:
    return asyncio.get_running_loop().time()


def is_watched() -> bool:
    """Whether somebody sees a bar: in a terminal, or a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "ZMQ" in type(shell).__name__ or sys.stderr.isatty()


class _Called:
    period_s = BAR_PERIOD_S

    def __init__(self, report: Report) -> None:
        self._report = report

    def show(self, counts: Mapping[str, int]) -> None:
        try:
            self._report(counts)
        except Exception:
            say(Word.FOLLOWER_FAILED, exc_info=True, follower=repr(self._report))

    def end(self) -> None:
        pass


class Lines:
    """Write a line into the log every ten seconds.

    Args:
        name: What it is called.
        total: How many items there are, if that is known.
        now: The loop's time.
    """

    period_s = LOG_PERIOD_S

    def __init__(self, name: str, total: int | None, now: float) -> None:
        self._name = name
        self._total = total
        self._began = now
        self._shown: str | None = None

    def show(self, counts: Mapping[str, int]) -> None:
        """Write a line, if it says something new."""
        line = self.line(counts, _now() - self._began)
        if line != self._shown:
            self._shown = line
            say(Word.PROGRESS, line=line)

    def line(self, counts: Mapping[str, int], took_s: float) -> str:
        """Return what is to be said."""
        ended = counts.get("done", 0) + counts.get("failed", 0)
        of = "" if self._total is None else f" of {self._total}"
        rate = ended / took_s if took_s > 0 else 0.0
        return f"{self._name}: {ended}{of} done, {rate:.1f}/s{_extras(counts)}"

    def end(self) -> None:
        """Say nothing more."""


def _extras(counts: Mapping[str, int]) -> str:
    names = ("in flight", "failed", "retried", "timed out")
    return "".join(f", {counts[name]} {name}" for name in names if counts.get(name))


class Bar:
    """Draw a bar on standard error, or in the notebook's cell."""

    period_s = BAR_PERIOD_S

    def __init__(self, name: str, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._began = _now()
        self._bar: Any = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f}/s{task.fields[extras]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._bar.start()
        self._task = self._bar.add_task(name, total=total, rate=0.0, extras="")

    def show(self, counts: Mapping[str, int]) -> None:
        """Draw it anew."""
        ended = counts.get("done", 0) + counts.get("failed", 0)
        took_s = _now() - self._began
        rate = ended / took_s if took_s > 0 else 0.0
        self._bar.update(self._task, completed=ended, rate=rate, extras=_extras(counts))
        self._bar.refresh()

    def end(self) -> None:
        """Leave it as it is."""
        self._bar.stop()
