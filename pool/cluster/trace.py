"""Where an error was raised, as text that is short enough to go with it.

What fails in another process is told in a sentence; its last lines of traceback go along, for the
line that raised it is what its author looks for. The whole of it is in the log of that process.
"""

from __future__ import annotations

import traceback

from pool.errors import MemberFailed, PoolError, RemoteError

LINES = 20
CHARACTERS = 2000


def trace_of(error: BaseException) -> str:
    """Return the last lines of an error's traceback; of an error of ours, what it brings along."""
    match error:
        case MemberFailed() | RemoteError():
            return last_lines(error.trace)
        case PoolError():
            return ""  # Its sentence is written to be enough.
        case _:
            # NB: ends with the notes, and so with the traceback of the process that it came from.
            return last_lines("".join(traceback.format_exception(error)))


def last_lines(text: str) -> str:
    """Return the last lines of a text, with an ellipsis where something was left out."""
    text = text.strip()
    kept = "\n".join(text.splitlines()[-LINES:])[-CHARACTERS:]
    return kept if kept == text else f"…\n{kept}"
