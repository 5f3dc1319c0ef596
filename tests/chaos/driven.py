"""The test's side of an obedient driver: what it said, and orders to it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_S = 90.0
"""The machine may be busy; how quick something was is asserted from the times that were said."""

Line = dict[str, Any]


class Driven:
    """Keep what an obedient driver says.

    Args:
        process: The driver, with pipes.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[Line] = []
        self._process = process
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="driven")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                with self._more:
                    self.lines.append(json.loads(line))
                    self._more.notify_all()
        with self._more:
            self.lines.append({"what": "end of output", "at": time.time()})
            self._more.notify_all()

    def order(self, words: str) -> None:
        """Tell the driver to do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()

    def ask(self, words: str, answer: str) -> Line:
        """Give an order, and return the line that says that it was done."""
        since = time.time()
        self.order(words)
        return self.until(answer, since=since)

    def said(self, what: str, *, since: float = 0.0, **facts: object) -> list[Line]:
        """List what was said of a kind, with given facts."""
        return [
            line
            for line in self.lines
            if line["what"] == what
            and line["at"] >= since
            and all(line.get(name) == fact for name, fact in facts.items())
        ]

    def until(
        self,
        what: str,
        *,
        since: float = 0.0,
        patience_s: float = PATIENCE_S,
        where: Callable[[Line], bool] = lambda line: True,
        **facts: object,
    ) -> Line:
        """Wait until something is said, and return its first line."""

        def found() -> list[Line]:
            return [line for line in self.said(what, since=since, **facts) if where(line)]

        def is_over() -> bool:
            return bool(found()) or bool(self.said("end of output"))

        with self._more:
            self._more.wait_for(is_over, patience_s)
        assert found(), f"no {what} {facts} within {patience_s} s; said was:\n{self}"
        return found()[0]

    def close(self) -> Line:
        """Let the driver close its pool, and return its last words."""
        self.order("close")
        return self.until("closed")

    def end(self) -> None:
        """End the driver, in whatever state it is."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def __str__(self) -> str:
        return "\n".join(json.dumps(line) for line in self.lines)


@contextmanager
def driven(process: subprocess.Popen[str]) -> Iterator[Driven]:
    """Listen to a driver once its pool is ready, and end it in the end."""
    listener = Driven(process)
    try:
        listener.until("ready")
        yield listener
    finally:
        listener.end()
