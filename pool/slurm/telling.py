"""What a node program says: into its log, and, where it concerns the user, the job's output."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

INDENT = "  | "


class Teller:
    """Say things, each with the seconds since the start.

    Args:
        log: Where all of it goes; None before there is a folder.
        name: Who speaks, for the job's output.
    """

    def __init__(self, name: str, log: Path | None = None) -> None:
        self.name = name
        self._log = log
        self._began = time.monotonic()

    def write_to(self, log: Path) -> None:
        """Write into a log from now on.

        Raises:
            OSError: It cannot be written.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8"):
            self._log = log

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def note(self, text: str) -> None:
        """Say something for whoever reads this node's log."""
        if self._log is not None:
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as file:
                file.write(f"{when} {text}\n")

    def say(self, text: str) -> None:
        """Say something for whoever reads the job's output."""
        self.note(text)
        # Nobody may read it any more; that ends nothing.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(f"pool slurm [{self.name} +{self.elapsed_s:.1f} s] {text}\n")
            sys.stdout.flush()

    def show(self, title: str, tail: str) -> None:
        """Show the end of a log."""
        if tail.strip():
            lines = "\n".join(INDENT + line for line in tail.strip().splitlines())
            self.say(f"{title}:\n{lines}")
