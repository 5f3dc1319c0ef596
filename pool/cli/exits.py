"""The exit codes of all commands, as `docs/reference/cli.md` has them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Name how a command ended."""

    DONE = 0
    FAILED = 1
    """It was refused, or did not come to its end; for `pool plan`: it does not fit."""
    USAGE = 2
    """The command line cannot be understood."""
    UNREACHABLE = 3
    """No cluster was found, or it does not answer."""
    UNKNOWN = 4
    """There is no such pool, slot or process."""
    NOT_CONFIRMED = 5
    """It was to be confirmed, and was not."""
    NO_OWNER = 6
    """Nobody is there who could do it: the pool has no owner, or it ended or does not answer."""
    INTERRUPTED = 130


class Stop(Exception):
    """End a command with a sentence for whoever typed it.

    Args:
        code: How it ends.
        text: What to say.
    """

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
