"""What `pool top` shows, and what its keys change."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios

import anyio
import pytest
from rich.console import Console

import pool
from pool.cli.frame import DOWN, HELP, NEXT, QUIT, UP, Frame
from pool.cli.top import show_top
from pool.cli.voice import Voice
from pool.testing import run
from tests.cli.canned import Canned


def shown(frame: Frame, height: int = 24, width: int = 80) -> list[str]:
    console = Console(width=width, height=height, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(frame.draw(height))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture
def frame() -> Frame:
    frame = Frame()
    anyio.run(frame.look, Canned())
    return frame


def test_it_shows_the_pools_and_of_one_its_slots_and_of_one_its_hosts(frame: Frame) -> None:
    assert shown(frame)[:2] == [
        " eval   older   rollout",
        "eval  owner gone  1 of 1 ready  shown 1 min 15 s ago",
    ]
    assert frame.press(NEXT[0])
    assert "it shows nothing of itself" in shown(frame)
    assert frame.press(NEXT[1])
    text = shown(frame)
    assert text[1] == "rollout  running  2 of 4 ready, not settled  shown 0.4 s ago"
    assert text[7].startswith("rank 0  slot 0  ready 1 h 2 min")
    assert "rollout/0.1: ready: it started" in text
    assert text[-1] == HELP
    assert frame.press(DOWN[0])
    assert "rollout/1.1: suspect: no answer within 2 s" in shown(frame)
    assert sum(line.startswith("host ") for line in shown(frame)) == 2


@pytest.mark.parametrize("height", [5, 12, 24, 80])
def test_it_fills_the_screen_and_no_more_with_the_chosen_slot_in_it(
    frame: Frame, height: int
) -> None:
    frame.press(NEXT[0])
    frame.press(NEXT[0])
    for _ in range(10):
        frame.press(DOWN[1])
    assert frame.slot == 4
    text = shown(frame, height)
    assert len(text) == height
    assert all(len(line) <= 80 for line in text)
    if height >= 12:
        assert any("slot 5" in line for line in text)


def test_keys_stay_inside_and_q_ends_it(frame: Frame) -> None:
    for _ in range(5):
        assert frame.press(UP[0])
    assert (frame.pool, frame.slot) == (0, 0)
    assert frame.press("x")
    assert not any(frame.press(key) for key in QUIT)


def test_a_cluster_that_is_away_leaves_what_was_seen_last() -> None:
    canned, frame = Canned(), Frame()
    anyio.run(frame.look, canned)
    canned.is_away = True
    anyio.run(frame.look, canned)
    text = shown(frame)
    assert text[0].startswith(" eval")
    assert any("GCS did not answer" in line for line in text)
    canned.is_away = False
    canned.values.clear()
    canned.tables.clear()
    anyio.run(frame.look, canned)
    assert shown(frame)[0] == "There are no pools."
    assert frame.press(NEXT[0])


PROGRAM = """
import pool.cluster.connect
from pool.cli import main
from tests.cli.canned import Canned
canned = Canned()
pool.cluster.connect.observe = lambda address: canned
main()
"""


def read_until(terminal: int, text: str) -> str:
    seen = ""
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, seen
        seen += os.read(terminal, 65536).decode()
    return seen


def test_in_a_terminal_keys_work_and_it_is_given_back_as_it_was() -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    command = [sys.executable, "-c", PROGRAM, "top"]
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    try:
        read_until(ours, "owner gone")
        os.write(ours, b"p")
        read_until(ours, "shows nothing of itself")
        os.write(ours, b"p")
        read_until(ours, "rollout/0.1: ready: it started")
        os.write(ours, b"\x1b[B")
        read_until(ours, "rollout/1.1: suspect")
        os.write(ours, b"q")
        assert program.wait(60) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        program.kill()
        program.wait()
        os.close(ours)
        os.close(theirs)


def test_as_json_it_prints_a_document_each_second_until_ctrl_c() -> None:
    command = [sys.executable, "-c", PROGRAM, "top", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as program:
        try:
            assert program.stdout is not None
            for _ in range(2):
                document = json.loads(program.stdout.readline())
                assert document["version"] == 1
                names = [view["name"] for view in document["pools"]]
                assert names == ["eval", "older", "rollout"]
            program.send_signal(signal.SIGINT)
            assert program.wait(60) == 130
        finally:
            program.kill()


def test_as_json_it_goes_on_while_the_cluster_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    canned = Canned()

    async def main() -> None:
        with anyio.move_on_after(100):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(show_top, canned, Voice(as_json=True))
                await anyio.sleep(2.5)
                assert len(capsys.readouterr().out.splitlines()) == 3
                canned.is_away = True
                await anyio.sleep(10)
                told = capsys.readouterr()
                assert (told.out, len(told.err.splitlines())) == ("", 1)
                canned.is_away = False
                await anyio.sleep(2)
                assert len(capsys.readouterr().out.splitlines()) == 2
                tasks.cancel_scope.cancel()
        canned.is_away = True
        with pytest.raises(pool.SourceUnavailable):
            await show_top(canned, Voice(as_json=True))

    run(main)
