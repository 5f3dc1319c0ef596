"""Notice files: whatever somebody put there is a notice; only an unreadable file is none."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import SourceUnavailable
from pool.notices.file import FileNotice, parse
from pool.planning.notice import Notice, NoticeKind


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        ("", Notice(kind=NoticeKind.PREEMPT, source="s")),
        (" \n", Notice(kind=NoticeKind.PREEMPT, source="s")),
        ("{}", Notice(kind=NoticeKind.PREEMPT, source="s")),
        (
            '{"kind": "maintenance", "deadline": 1700000000, "reason": "disks", "advisory": true}',
            Notice(
                kind=NoticeKind.MAINTENANCE,
                deadline=1_700_000_000.0,
                source="s",
                reason="disks",
                advisory=True,
            ),
        ),
        (
            '{"deadline": null, "kind": "walltime"}',
            Notice(kind=NoticeKind.WALLTIME, source="s"),
        ),
        (
            '{"deadline": "1700000000.5"}',
            Notice(kind=NoticeKind.PREEMPT, deadline=1_700_000_000.5, source="s"),
        ),
    ],
)
def test_a_valid_text_is_read_as_it_says(text: str, notice: Notice) -> None:
    assert parse(text, "s") == notice


@pytest.mark.parametrize(
    "text",
    [
        "the rack moves at noon",
        '{"kind": "tea"}',
        '{"deadline": "noon"}',
        '{"deadline": NaN}',
        '{"deadline": 1e999}',
        '{"when": 5}',
        "[1, 2]",
        "7",
        "null",
        "[]",
        '"a word"',
        '{"deadline": [1]}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_a_text_that_is_no_valid_notice_is_one_all_the_same_with_its_words(text: str) -> None:
    notice = parse(text, "s")
    assert (notice.kind, notice.deadline) == (NoticeKind.PREEMPT, None)
    assert text[:50] in notice.reason


@given(st.text() | st.from_type(dict[str, int | str | float | bool | None]).map(repr))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    assert parse(text, "s").source == "s"


def test_a_file_speaks_for_its_own_node_and_only_while_it_is_there(tmp_path: Path) -> None:
    source = FileNotice(tmp_path / "{node_id}-{address}")

    async def ask(node: str) -> Notice | None:
        return await source.check(node, "10.0.0.1")

    assert anyio.run(ask, "n1") is None
    path = tmp_path / "n1-10.0.0.1"
    path.write_bytes(b"\xff\xfe not text")
    notice = anyio.run(ask, "n1")
    assert notice is not None
    assert notice.source == f"file:{path}"
    assert "not text" in notice.reason
    assert anyio.run(ask, "n2") is None
    path.unlink()
    assert anyio.run(ask, "n1") is None
    path.mkdir()
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        anyio.run(ask, "n1")
