"""Where an error was raised, as text that is short enough to go with it.

What fails in another process is told in a sentence; its last lines of traceback go along, for the
line that raised it is what its author looks for. The whole of it is in the log of that process.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable

from pool.errors import MemberFailed, PoolError, RemoteError

LINES = 20
CHARACTERS = 2000
RAISED_IN = "raised in "


def trace_of(error: BaseException) -> str:
    """Return the last lines of an error's traceback; of an error of ours, what it brings along."""
    match error:
        case MemberFailed() | RemoteError():
            return last_lines(error.trace)
        case PoolError():
            return ""  # Its sentence is written to be enough.
        case _:
            # Of what came from another process, our own frames say nothing of where it was raised.
            return last_lines(_note_of(error) or "".join(traceback.format_exception(error)))


def note_trace(error: BaseException, member: str, text: str | None = None) -> None:
    """Add a note to an error that says where it was raised, unless it has one.

    Args:
        error: The error.
        member: Whose process it was raised in.
        text: The traceback; the error's own when left out, in its last lines.
    """
    if not _note_of(error):
        if text is None:
            text = last_lines("".join(traceback.format_exception(error)))
        # NB: an error of the user's own may refuse notes, as a frozen dataclass does; it is to
        # arrive all the same.
        with contextlib.suppress(Exception):
            error.add_note(f"{RAISED_IN}{member}:\n{text}")


def with_trace(error: Exception, member: str) -> Exception:
    """Return the error of a start, to be raised in its place, with a note of where it was raised.

    It is the error itself but for a bare TimeoutError, which asyncio makes anew, without notes and
    traceback, on its way from one thread to another.
    """
    if type(error) is TimeoutError:
        return RemoteError("TimeoutError", str(error), traceback.format_exc())
    if not isinstance(error, PoolError):
        note_trace(error, member)
    return error


def _note_of(error: BaseException) -> str:
    notes: Iterable[str] = getattr(error, "__notes__", ())
    return next((note for note in notes if note.startswith(RAISED_IN)), "")


def last_lines(text: str) -> str:
    """Return the last lines of a text, with an ellipsis where something was left out."""
    text = text.strip()
    kept = "\n".join(text.splitlines()[-LINES:])[-CHARACTERS:]
    return kept if kept == text else f"…\n{kept}"
