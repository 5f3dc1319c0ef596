"""Run a program on a terminal of its own, and keep each picture that it drew.

Why not a full terminal emulator: rich erases a line before it writes it anew, so lines with their
colours are all that there is to keep, and what else a terminal can do does not occur.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_CONTROL = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|\r|\n")
_READ = 65536


@dataclass(frozen=True, slots=True)
class Picture:
    """Hold what stood on the screen.

    Args:
        at_s: Seconds from the program's start.
        lines: From top to bottom, with their colours as a terminal gets them.
    """

    at_s: float
    lines: tuple[str, ...]


class Screen:
    """Follow what a program writes; a screen without a lower edge."""

    def __init__(self) -> None:
        self._lines = [""]
        self._row = 0
        self._rest = ""

    def feed(self, text: str) -> None:
        """Take what was written; a control sequence may come in parts."""
        text = self._rest + text
        cut = text.rfind("\x1b")
        whole = cut < 0 or _CONTROL.match(text, cut) is not None
        text, self._rest = (text, "") if whole else (text[:cut], text[cut:])
        done = 0
        for found in _CONTROL.finditer(text):
            self._write(text[done : found.start()])
            done = found.end()
            self._control(found)
        self._write(text[done:])

    def lines(self) -> tuple[str, ...]:
        """Return what stands there now."""
        return tuple(self._lines)

    def _write(self, text: str) -> None:
        self._lines[self._row] += text

    def _control(self, found: re.Match[str]) -> None:
        number, what = found[1], found[2]
        if found[0] == "\n":
            self._row += 1
            if self._row == len(self._lines):
                self._lines.append("")
        elif what == "A":
            self._row = max(0, self._row - int(number or 1))
        elif what == "K":
            self._lines[self._row] = ""
        elif what == "m":
            self._write(found[0])


def record(
    command: Sequence[str], columns: int, rows: int, env: Mapping[str, str]
) -> tuple[list[Picture], int]:
    """Run a program until it ends.

    Args:
        command: The program and its arguments.
        columns: How wide its terminal is.
        rows: How high.
        env: Variables that are set for it beside ours.

    Returns:
        A picture for each time that something was written, and the exit status.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    began = time.monotonic()
    program = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, **env}, close_fds=True
    )
    os.close(its)
    screen = Screen()
    pictures = []
    try:
        for text in _written(ours):
            screen.feed(text)
            pictures.append(Picture(time.monotonic() - began, screen.lines()))
    finally:
        os.close(ours)
        status = program.wait()
    return pictures, status


def _written(descriptor: int) -> Iterator[str]:
    rest = b""
    while True:
        try:
            got = os.read(descriptor, _READ)
        except OSError:  # on Linux, the other end is closed
            return
        if not got:
            return
        rest += got
        text = rest.decode(errors="ignore")
        kept = len(text.encode())
        rest = rest[kept:] if len(rest) - kept < 4 else b""
        yield text
