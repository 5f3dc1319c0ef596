"""What a node program says: into its log, and, where it concerns the user, the job's output.

Both may be slow: the log lies on a file system that all nodes share, and the output goes through
`srun`. A node program that waited for them would not answer the roll call, and be lost for a hiccup
of the file system. So a thread writes, in the order in which things were said.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

INDENT = "  | "
LAST_WORDS_S = 2.0
"""How long the end waits for what was said to be written."""


class Teller:
    """Say things, each with the seconds since the start.

    Args:
        name: Who speaks, for the job's output.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._log: Path | None = None
        self._began = time.monotonic()
        self._said: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="pool-slurm-teller", daemon=True)
        self._writer.start()

    def write_to(self, log: Path) -> None:
        """Write into a log from now on. Its folder has to be there."""
        self._log = log

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def note(self, text: str) -> None:
        """Say something for whoever reads this node's log."""
        if self._log is not None:
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            log = self._log
            self._said.put(lambda: _append(log, f"{when} {text}\n"))

    def say(self, text: str) -> None:
        """Say something for whoever reads the job's output."""
        self.note(text)
        self.copy(f"pool slurm [{self.name} +{self.elapsed_s:.1f} s] {text}\n")

    def show(self, title: str, tail: str) -> None:
        """Show the end of a log."""
        if tail.strip():
            lines = "\n".join(INDENT + line for line in tail.strip().splitlines())
            self.say(f"{title}:\n{lines}")

    def copy(self, text: str) -> None:
        """Put somebody else's words into the job's output."""
        self._said.put(lambda: _print(text))

    def close(self) -> None:
        """Wait until all is written, if that does not take long. Nothing can be said afterwards."""
        self._said.put(None)
        self._writer.join(LAST_WORDS_S)

    def _write(self) -> None:
        while (write := self._said.get()) is not None:
            # Nobody may read it any more, or the disk is full; that ends nothing.
            with contextlib.suppress(OSError, ValueError):
                write()


def _append(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


def _print(text: str) -> None:
    # Whatever the locale is: a driver's words must not be lost for a letter of theirs.
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()
