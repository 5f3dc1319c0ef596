"""Logs that are read while they are written and rotated: nothing twice, nothing torn."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.process import logs
from pool.process.logs import Cursor


def rotate(log: Path, backups: int = 3) -> None:
    """Rename as a writer does that keeps so many old files."""
    names = [log, *(log.with_name(f"{log.name}.{n + 1}") for n in range(backups))]
    names[-1].unlink(missing_ok=True)
    for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
        if newer.exists():
            newer.rename(older)
    log.touch()


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


def test_a_log_that_is_not_there_yet_is_empty(log: Path) -> None:
    assert logs.read(log) == ("", Cursor())
    assert logs.tail(log) == ""
    begin = logs.end(log)
    append(log, b"first\n")
    assert logs.read(log, begin)[0] == "first\n"


def test_only_whole_lines_come_until_the_rest_is_asked_for(log: Path) -> None:
    append(log, b"one\ntwo\nthr")
    text, cursor = logs.read(log)
    assert text == "one\ntwo\n"
    assert logs.read(log, cursor) == ("", cursor)
    assert logs.read(log, cursor, rest=True)[0] == "thr"
    append(log, b"ee\n")
    text, cursor = logs.read(log, pickle.loads(pickle.dumps(cursor)))
    assert text == "three\n"
    assert logs.read(log, cursor, rest=True)[0] == ""


def test_a_line_that_a_rotation_cut_comes_whole(log: Path) -> None:
    append(log, b"one\ntw")
    _, cursor = logs.read(log)
    rotate(log)
    append(log, "o ä".encode()[:-1])
    rotate(log)
    append(log, "ä".encode()[-1:] + b"\nthree\n")
    assert logs.read(log, cursor)[0] == "two ä\nthree\n"
    assert logs.read(log)[0] == "one\ntwo ä\nthree\n"
    assert logs.tail(log, lines=2) == "two ä\nthree\n"


def test_a_reader_that_comes_too_late_goes_on_with_the_oldest_there_is(log: Path) -> None:
    append(log, b"0\n")
    _, cursor = logs.read(log)
    for number in range(1, 7):
        rotate(log, backups=2)
        append(log, f"{number}\n".encode())
    assert logs.read(log, cursor)[0] == "4\n5\n6\n"


def test_an_inode_that_is_used_again_is_not_taken_for_the_old_file(log: Path) -> None:
    append(log, b"old old old\n")
    cursor = logs.end(log)
    # In place, so that the inode is the same for certain.
    log.write_bytes(b"new one\nnew two\n")
    assert logs.read(log, cursor)[0] == "new one\nnew two\n"


def test_a_rotation_that_is_half_done_hides_nothing(log: Path) -> None:
    append(log, b"one\n")
    rotate(log)
    append(log, b"two\n")
    log.with_name("engine.log.1").rename(log.with_name("engine.log.2"))
    assert logs.read(log)[0] == "one\ntwo\n"
    log.rename(log.with_name("engine.log.1"))
    assert logs.read(log)[0] == "one\ntwo\n"


def test_a_line_longer_than_a_piece_comes_in_pieces_that_cut_no_character(log: Path) -> None:
    line = "aä€🎲" * 50 + "\n"
    append(log, line.encode() + b"short\n")
    pieces, cursor = [], Cursor()
    while True:
        text, cursor = logs.read(log, cursor, max_bytes=7)
        if not text:
            break
        assert len(text.encode()) <= 7
        pieces.append(text)
    assert "".join(pieces) == line + "short\n"


def test_what_is_no_text_is_shown_as_such(log: Path) -> None:
    append(log, b"a\xff\xfeb\n")
    assert logs.read(log)[0] == "a\ufffd\ufffdb\n"
    assert logs.tail(log) == "a\ufffd\ufffdb\n"


def test_a_tail_is_bounded_in_lines_and_bytes_and_begins_with_a_whole_line(log: Path) -> None:
    append(log, b"".join(b"line %d\n" % number for number in range(1000)))
    assert logs.tail(log, lines=2) == "line 998\nline 999\n"
    assert logs.tail(log, max_bytes=20) == "line 998\nline 999\n"
    assert logs.tail(log, max_bytes=18) == "line 998\nline 999\n"
    append(log, b"no end")
    assert logs.tail(log, lines=2) == "line 999\nno end"
    assert logs.tail(log, max_bytes=3) == "end"


def test_a_tail_looks_no_further_back_than_it_is_told(log: Path) -> None:
    append(log, b"of the first start\n")
    begin = logs.end(log)
    assert logs.tail(log, since=begin) == ""
    rotate(log)
    append(log, b"of the second\n")
    assert logs.tail(log, since=begin) == "of the second\n"
    assert logs.tail(log) == "of the first start\nof the second\n"


def test_what_is_no_file_has_nothing_to_read(tmp_path: Path) -> None:
    assert logs.read("/dev/null") == ("", Cursor())
    os.mkfifo(tmp_path / "pipe")
    assert logs.tail(tmp_path / "pipe") == ""


def test_a_piece_of_nothing_is_refused(log: Path) -> None:
    with pytest.raises(ConfigError, match="lines is 0; give a whole number, 1 or more"):
        logs.tail(log, lines=0)
    with pytest.raises(ConfigError, match="max_bytes is True; give a whole number, 1 or more"):
        logs.tail(log, max_bytes=True)
    with pytest.raises(ConfigError, match="give a whole number, 4 or more"):
        logs.read(log, max_bytes=3)


steps = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40).map(lambda data: data.replace(b"\xff", b"\n")),
        st.sampled_from(["rotate", "read"]),
    ),
    max_size=40,
)


@given(steps=steps, size=st.integers(4, 64))
def test_a_reader_gets_each_byte_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | str], size: int
) -> None:
    log = tmp_path_factory.mktemp("logs") / "log"
    written, read, cursor = b"", "", Cursor()

    def drain(rest: bool = False) -> Iterator[str]:
        nonlocal cursor
        while True:
            text, cursor = logs.read(log, cursor, max_bytes=size, rest=rest)
            if not text:
                return
            yield text

    for step in steps:
        if isinstance(step, bytes):
            # ASCII, so that what replaces what is no text does not hide a difference.
            data = bytes(byte & 0x7F for byte in step)
            append(log, data)
            written += data
        elif step == "rotate" and log.exists():
            rotate(log, backups=len(steps))
        elif step == "read":
            for text in drain():
                assert text.endswith("\n") or len(text) >= size - 3, "a line was cut"
                read += text
    read += "".join(drain(rest=True))
    assert read == written.decode()


def test_after_a_tail_a_reader_goes_on_without_a_gap_while_the_log_is_written(log: Path) -> None:
    log.write_bytes(b"one\ntwo\nthr")
    text, cursor = logs.tail_and_end(log, lines=2)
    assert text == "two\nthr"
    append(log, b"ee\nfour\nfi")
    assert logs.read(log, cursor)[0] == "ee\nfour\n"


def test_a_tail_of_no_lines_is_refused_with_its_end(log: Path) -> None:
    with pytest.raises(ConfigError, match="lines is 0"):
        logs.tail_and_end(log, lines=0)
