"""Where the demo is followed: a living picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import pool
from pool.demo.job import Job
from pool.demo.picture import draw
from pool.demo.words import event_in_words

NEWS_SHOWN = 8


class Show(ABC):
    """Be told how the demo goes."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Draw no more; what was written stays."""

    def event(self, event: pool.Event) -> None:
        """Take note of something that happened in the pool."""
        text = event_in_words(event)
        if text is not None:
            self.say(text)

    @abstractmethod
    def say(self, text: str) -> None:
        """Say something, in one line."""

    @abstractmethod
    def step(self, text: str) -> None:
        """Say what is done to the pool."""

    @abstractmethod
    def frame(self, snapshot: pool.PoolSnapshot, job: Job) -> None:
        """Show how the pool and its job are now."""

    @abstractmethod
    def report(self, line: str) -> None:
        """Write a line of the report."""

    def _stamp(self) -> str:
        return f"{time.monotonic() - self._began:6.1f} s  "


class Lines(Show):
    """Write plain lines.

    Args:
        to: Where to write the story.
        report_to: Where to write the report; None leaves it out.
    """

    def __init__(self, to: TextIO, report_to: TextIO | None) -> None:
        super().__init__()
        self._to = to
        self._report_to = report_to
        self._tenth = 0

    def close(self) -> None:
        """Do nothing: a line is done when it is written."""

    def say(self, text: str) -> None:
        """Print it, with the time."""
        print(f"{self._stamp()}{text}", file=self._to, flush=True)

    def step(self, text: str) -> None:
        """Print it with a mark that is easy to find."""
        self.say(f">>> {text}")

    def frame(self, snapshot: pool.PoolSnapshot, job: Job) -> None:
        """Print the progress, at each tenth of the job."""
        tenth = int(job.share * 10)
        if tenth != self._tenth:
            self._tenth = tenth
            self.say(f"{job.share:.0%} of the job is done")

    def report(self, line: str) -> None:
        """Print it, unless only the story is wanted."""
        if self._report_to is not None:
            print(line, file=self._report_to, flush=True)


class Screen(Show):
    """Draw the tree, the progress, and the last that happened.

    Args:
        to: The terminal.
    """

    def __init__(self, to: TextIO) -> None:
        super().__init__()
        self._console = Console(file=to, highlight=False)
        self._news: deque[Text] = deque(maxlen=NEWS_SHOWN)
        self._drawn: list[RenderableType] = []
        # NB: no refreshing thread: a snapshot may be taken on the pool's own loop only.
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def close(self) -> None:
        """Let the last picture stand."""
        self._live.stop()

    def say(self, text: str) -> None:
        """Add it to the news below the tree."""
        self._add(text)

    def step(self, text: str) -> None:
        """Add it to the news, in a colour that shows."""
        self._add(text, "bold magenta")

    def frame(self, snapshot: pool.PoolSnapshot, job: Job) -> None:
        """Draw tree, progress and news anew."""
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, job.planned), completed=job.received, width=50)
        row.add_row("job ", bar, f"{job.share:4.0%}  {job.received:,} of {job.planned:,} batches")
        self._drawn = [draw(snapshot), Text(), row, Text()]
        self._refresh()

    def report(self, line: str) -> None:
        """Print it below the picture; verdicts in their colour."""
        style = "bold red" if line.startswith("FAILED") else ""
        style = "green" if line.startswith("ok ") else style
        self._console.print(Text(line, style), soft_wrap=True)

    def _add(self, text: str, style: str = "dim") -> None:
        self._news.append(Text(f"{self._stamp()}{text}", style, no_wrap=True, overflow="ellipsis"))
        self._refresh()

    def _refresh(self) -> None:
        self._live.update(Group(*self._drawn, *self._news), refresh=True)
