from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from pool.slurm.board import SAY_S, STATUS_S, Board
from pool.slurm.judge import Stage
from pool.slurm.roles import assign
from pool.slurm.standing import Standing
from pool.slurm.telling import Teller


class EnoughSeen(Exception):
    """Ends what would go on."""


class Told(Teller):
    """What is said, at times that the test sets."""

    def __init__(self) -> None:
        super().__init__("n1")
        self.words: list[str] = []
        self.notes: list[str] = []
        self.now_s = 0.0

    @property
    def elapsed_s(self) -> float:
        return self.now_s

    def say(self, text: str) -> None:
        self.words.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def told() -> Iterator[Told]:
    teller = Told()
    yield teller
    teller.close()


def test_progress_is_said_when_it_changes_but_not_for_each_node(told: Told) -> None:
    board = Board(Path("/none"), told)
    for now_s, why, is_last in [
        (0.1, "1 of 9", False),
        (0.2, "2 of 9", False),  # too soon
        (1.1, "3 of 9", False),
        (5.0, "3 of 9", False),  # nothing new
        (1.1 + SAY_S, "3 of 9", False),
        (1.2 + SAY_S, "all", True),
    ]:
        told.now_s = now_s
        board.progress(why, is_last=is_last)
    assert told.words == ["1 of 9", "3 of 9", "3 of 9", "all"]


def test_a_status_is_published_at_news_and_before_it_gets_old(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(tmp_path, told)
    looks = iter([(0.0, "a"), (0.5, "a"), (1.0, "b"), (1.5, "b"), (1.0 + STATUS_S, "b")])
    published: list[float] = []

    def news() -> str:
        told.now_s, state = next(looks, (0.0, ""))
        if not state:
            raise EnoughSeen
        return state

    def status() -> dict[str, float]:
        published.append(told.now_s)
        return {"at": told.now_s}

    monkeypatch.setattr("pool.slurm.board.LOOK_S", 0.0)
    with pytest.raises(EnoughSeen):
        anyio.run(board.keep_status, status, news)
    assert published == [0.0, 1.0, 1.0 + STATUS_S]
    assert json.loads((tmp_path / "status.json").read_text()) == {"at": published[-1]}


def test_a_head_that_has_left_says_so_where_it_said_where_it_is(tmp_path: Path, told: Told) -> None:
    board = Board(tmp_path, told)
    anyio.run(board.announce, {"host": "n1"}, 30.0)
    assert json.loads((tmp_path / "head.json").read_text()) == {"host": "n1"}
    anyio.run(board.withdraw, {"host": "n1"}, "all is done")
    found = json.loads((tmp_path / "head.json").read_text())
    assert found == {"host": "n1", "over": "all is done"}
    anyio.run(board.leave_code, 7)
    assert (tmp_path / "exit-code").read_text() == "7\n"


def test_only_a_head_that_cannot_be_found_is_an_error(tmp_path: Path, told: Told) -> None:
    board = Board(tmp_path / "none", told)
    with pytest.raises(OSError, match=r"head\.json"):
        anyio.run(board.announce, {}, 30.0)
    with pytest.raises(TimeoutError, match=r"head\.json could not be written in 0 s"):
        anyio.run(board.announce, {}, 0.0)
    anyio.run(board.publish_status, {})
    anyio.run(board.leave_code, 1)
    assert len(told.notes) == 2
    assert all("cannot be written" in note for note in told.notes)
    anyio.run(board.give_notice, {})
    assert "the notice cannot be published" in told.words[0]


def test_the_tail_that_a_node_has_sent_is_shown_before_its_log(tmp_path: Path, told: Told) -> None:
    board = Board(tmp_path, told)
    standing = Standing(assign(["n1", "n2"]), [], 2, lambda: None)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "node-1.log").write_text("of the program\n")
    anyio.run(board.show_tail, 1, "", standing)
    (tmp_path / "logs" / "ray-worker-1.log").write_text("of Ray\n")
    anyio.run(board.show_tail, 1, "", standing)
    standing.report(1, Stage.LOST, 1.0, tail="sent")
    anyio.run(board.show_tail, 1, "", standing)
    assert told.words == [
        "the last lines of node-1.log, node n2 (rank 1):\n  | of the program",
        "the last lines of ray-worker-1.log, node n2 (rank 1):\n  | of Ray",
        "the last lines of ray-worker-1.log, node n2 (rank 1):\n  | sent",
    ]
