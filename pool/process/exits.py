"""How processes ended, and what it took."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pool.process.pids import ProcessId


@dataclass(frozen=True, slots=True)
class Exit:
    """How a main process ended.

    Attributes:
        code: What it returned; None if a signal ended it.
        signal: The number of the signal that did.
    """

    code: int | None = None
    signal: int | None = None

    @property
    def is_clean(self) -> bool:
        """Whether it returned 0."""
        return self.code == 0

    @property
    def lost(self) -> bool:
        """Whether nobody knows how it ended, as its warden was killed and so it was."""
        return self.code is None and self.signal is None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {_name_of(self.signal)} ({self.signal})"
        if self.code is not None:
            return f"exit code {self.code}"
        return "killed with its warden, unseen"


Rung = Literal["already", "asked", "terminated", "killed"]
"""What it took to stop something: nothing, a question, SIGTERM, or SIGKILL.

A process launched here is never "asked": that is for whoever can ask it in its own words before.
"""


@dataclass(frozen=True, slots=True)
class StopReport:
    """How a stop went.

    Attributes:
        exit: How the main process ended.
        rung: What it took: "already" if the main process had ended before, "terminated" if all of
            the tree ended when it was asked to with SIGTERM, "killed" if some of it did not.
        killed: How many processes of the tree were killed with SIGKILL.
    """

    exit: Exit
    rung: Rung
    killed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """What the file `<log>.exit` says of the last process with this log that has ended.

    Attributes:
        identity: Whose process it was and which.
        process: The main process.
        exit: How it ended.
        ended_at: When, in seconds since 1970, by the node's clock.
        stopped_by: "asked" if its owner had it stopped, "owner" if its owner was gone, "" if it
            ended by itself.
        is_gone: Whether the rest of the tree was gone as well when this was written.
        killed: How many processes of the tree had been killed with SIGKILL by then.
        dropped_bytes: How much of its output could not be written to the log.
    """

    identity: str
    process: ProcessId
    exit: Exit
    ended_at: float
    stopped_by: str
    is_gone: bool
    killed: int
    dropped_bytes: int


def read_exit(log: Path) -> ExitRecord | None:
    """Return how the last process with this log ended; None if it has not, or that is not known."""
    try:
        said = json.loads(Path(f"{log}.exit").read_text(encoding="ascii"))
        return ExitRecord(
            identity=said["identity"],
            process=ProcessId(said["pid"], said["created"]),
            exit=Exit(said["code"], said["signal"]),
            ended_at=said["ended_at"],
            stopped_by=said["stopped_by"] or "",
            is_gone=said["is_gone"],
            killed=said["killed"],
            dropped_bytes=said["dropped_bytes"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal"
