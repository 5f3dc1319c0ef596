"""Read a process's log while it is written and rotated, a bounded piece at a time.

A log is one stream of bytes over several files: `log`, before it `log.1`, before that `log.2`, and
so on; rotation renames each to the next number and lets the last one go. A reader's place in it is
a file's inode and an offset, which stay right when the file is renamed; a number of bytes from the
beginning would not.

Limits: an inode may be used again once its file is gone. So a cursor also keeps a sum of the first
bytes of its file, and when they differ, or the file is not there, the reader goes on with the
oldest that is. Only a writer that appends is understood, as the one of this package is.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pool.errors import ConfigError

TAIL_LINES = 50
TAIL_BYTES = 8192
READ_BYTES = 64 * 1024

_NOTE = re.compile(r"--- \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")

_HEAD_BYTES = 256
"""How much of a file's beginning tells it from another one with its inode."""
_NUMBERS_MISSING = 2
"""Files in a row that are not there, after which no older one is looked for: a rotation that is
under way leaves one number free."""
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Cursor:
    """Hold a place in a log. The default is the beginning of what there is.

    Args:
        inode: The file that the place is in.
        offset: Bytes from that file's beginning.
        head: A sum of the file's first bytes.
    """

    inode: int = 0
    offset: int = 0
    head: int = 0


def end(path: str | Path) -> Cursor:
    """Return the place after all that is written by now.

    Args:
        path: The log; it need not be there yet.

    Raises:
        OSError: It cannot be read.
    """
    with _opened(path) as log:
        return log.cursor(log.size)


def read(
    path: str | Path,
    cursor: Cursor | None = None,
    *,
    max_bytes: int = READ_BYTES,
    rest: bool = False,
) -> tuple[str, Cursor]:
    """Return the next whole lines after a place, and the place after them.

    A line is never cut, also where a rotation cut it; one that is longer than `max_bytes` comes in
    pieces, none of which cuts a character. What is no UTF-8 is shown as U+FFFD. Call again until
    the text is empty; while the process lives, more may come later. What was rotated away before
    it was read is left out.

    Args:
        path: The log; it need not be there yet.
        cursor: The place; None is the beginning of what there is.
        max_bytes: How much to read at most; 4 or more.
        rest: Return the last line also if its end is not written yet, as when the process has
            ended.

    Returns:
        The text, empty when there is nothing new, and the cursor to give next time.

    Raises:
        ConfigError: `max_bytes` is out of its range.
        OSError: It cannot be read.
    """
    # 4 bytes hold any character, so that a piece is never empty.
    _check_count("max_bytes", max_bytes, 4)
    with _opened(path) as log:
        begin = log.find(cursor or Cursor())
        data = log.read(begin, max_bytes)
        cut = data.rfind(b"\n") + 1
        if rest and begin + len(data) == log.size:
            cut = len(data)
        elif not cut and len(data) == max_bytes:
            cut = _without_begun(data)
        return data[:cut].decode(errors="replace"), log.cursor(begin + cut)


def tail(
    path: str | Path,
    *,
    lines: int = TAIL_LINES,
    max_bytes: int = TAIL_BYTES,
    since: Cursor | None = None,
) -> str:
    """Return the last lines, without waiting for the end of the last one.

    Args:
        path: The log; if it is not there, nothing is returned.
        lines: How many at most; 1 or more.
        max_bytes: How much to read at most; 1 or more. A first line that does not fit is left out,
            unless it is the only one.
        since: Look no further back than this place.

    Raises:
        ConfigError: A number is out of its range.
        OSError: It cannot be read.
    """
    with _opened(path) as log:
        return _tail(log, lines, max_bytes, since or Cursor())


def tail_and_end(
    path: str | Path, *, lines: int = TAIL_LINES, max_bytes: int = TAIL_BYTES
) -> tuple[str, Cursor]:
    """Return the last lines as `tail` does, and the place right after them, for `read`.

    Both are of one moment, so that nothing that is written meanwhile is lost or read twice.

    Raises:
        ConfigError: A number is out of its range.
        OSError: It cannot be read.
    """
    with _opened(path) as log:
        return _tail(log, lines, max_bytes, Cursor()), log.cursor(log.size)


def _tail(log: _Log, lines: int, max_bytes: int, since: Cursor) -> str:
    _check_count("lines", lines, 1)
    _check_count("max_bytes", max_bytes, 1)
    first = log.find(since)
    begin = max(first, log.size - max_bytes)
    data = log.read(begin, log.size - begin)
    if begin > first and log.read(begin - 1, 1) != b"\n":
        _, newline, whole = data.partition(b"\n")
        data = whole if newline and whole else _without_part(data)
    # NB: not `splitlines`, which takes the \r of a progress bar for the end of a line.
    kept = data.removesuffix(b"\n").split(b"\n")[-lines:]
    return b"\n".join(kept).decode(errors="replace") + "\n" * data.endswith(b"\n")


def is_note(line: str) -> bool:
    """Whether a line was written by the warden, at a start, and not by the process."""
    return _NOTE.match(line) is not None


def _without_begun(data: bytes) -> int:
    """Return the length of the data without a character at its end that goes on behind it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return len(data) - len(decoder.getstate()[0])


def _without_part(data: bytes) -> bytes:
    """Return the data without what is left of a character that begins before it."""
    begin = 0
    while begin < min(3, len(data)) and data[begin] & 0xC0 == 0x80:
        begin += 1
    return data[begin:]


def _check_count(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        message = f"{name} is {value!r}; give a whole number, {least} or more"
        raise ConfigError(message, name)


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a log, open, with its size when it was opened."""

    descriptor: int
    inode: int
    size: int

    def head(self, offset: int) -> int:
        """Return the sum of the first bytes, of those that were there when `offset` was its end."""
        return zlib.crc32(os.pread(self.descriptor, min(offset, _HEAD_BYTES), 0))


class _Log:
    """The files of a log as one stream, oldest first."""

    def __init__(self, files: list[_File]) -> None:
        self._files = files
        self.size = sum(file.size for file in files)

    def find(self, cursor: Cursor) -> int:
        """Return where in the stream a cursor is; 0 if its file is not there any more."""
        begin = 0
        for file in self._files:
            is_it = file.inode == cursor.inode and cursor.offset <= file.size
            if is_it and file.head(cursor.offset) == cursor.head:
                return begin + cursor.offset
            begin += file.size
        return 0

    def cursor(self, place: int) -> Cursor:
        """Return the cursor for a place in the stream."""
        cursor = Cursor()
        for file in self._files:
            offset = min(place, file.size)
            # The end of a file rather than the beginning of the next: that one may hold nothing
            # yet that it could be told by.
            cursor = Cursor(file.inode, offset, file.head(offset))
            place -= offset
            if not place:
                break
        return cursor

    def read(self, begin: int, count: int) -> bytes:
        """Return up to `count` bytes from a place on, over as many files as that takes."""
        pieces: list[bytes] = []
        for file in self._files:
            if begin < file.size and count > 0:
                piece = os.pread(file.descriptor, min(count, file.size - begin), begin)
                pieces.append(piece)
                count -= len(piece)
            begin = max(0, begin - file.size)
        return b"".join(pieces)


@contextmanager
def _opened(path: str | Path) -> Iterator[_Log]:
    """Open all files of a log, and make sure that they are those of one moment."""
    for last_try in (False,) * (_TRIES - 1) + (True,):
        with ExitStack() as opened:
            files = _open_all(Path(path), opened)
            if last_try or _inode(path) == (files[-1].inode if files else None):
                yield _Log(files)
                return


def _open_all(path: Path, opened: ExitStack) -> list[_File]:
    # Newest first: a file that is renamed meanwhile is then seen twice, and not missed.
    files: dict[int, _File] = {}
    number = missing = 0
    while missing < _NUMBERS_MISSING:
        name = path.with_name(f"{path.name}.{number}") if number else path
        number += 1
        try:
            # O_NONBLOCK: a pipe that nobody writes to must not hold the reader up.
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            missing += 1
            continue
        missing = 0
        opened.callback(os.close, descriptor)
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            continue  # Such as /dev/null: nothing that was written there can be read again.
        files.setdefault(facts.st_ino, _File(descriptor, facts.st_ino, facts.st_size))
    return list(files.values())[::-1]


def _inode(path: str | Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None
