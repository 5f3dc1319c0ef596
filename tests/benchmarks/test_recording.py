"""The recording of the demo: what a program draws on a terminal is what the film shows."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.live import Live
from rich.text import Text

from benchmarks.recording.film import Frame, Pace, cut, draw
from benchmarks.recording.terminal import Picture, Screen, record

SVG = "{http://www.w3.org/2000/svg}"
DEMO = Path(__file__).parents[2] / "docs" / "demo.svg"


def plain(lines: tuple[str, ...]) -> list[str]:
    return [Text.from_ansi(line).plain for line in lines]


def shown(svg: str) -> list[str]:
    """Return the text of each line of a film, each once."""
    root = ElementTree.fromstring(svg)
    texts = root.findall(f"{SVG}defs/{SVG}text")
    return [" ".join("".join(text.itertext()).split()) for text in texts]


def test_a_living_picture_is_followed_through_growing_and_shrinking() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=40)
    screen = Screen()
    with Live(console=console, auto_refresh=False) as live:
        for rows in (["one"], ["one", "two", "three"], ["four"]):
            live.update(Text("\n".join(rows), "green"), refresh=True)
            text = written.getvalue()
            written.seek(0)
            written.truncate()
            # In two parts, cut somewhere: a control sequence may come in parts.
            screen.feed(text[:-3])
            screen.feed(text[-3:])
            there = [line for line in plain(screen.lines()) if line]
            assert there == rows


def test_a_program_has_a_terminal_of_the_size_asked_for() -> None:
    program = "import os, sys; print(sys.stdout.isatty(), *os.get_terminal_size()); sys.exit(3)"
    pictures, status = record([sys.executable, "-c", program], 77, 11, {})
    assert status == 3
    assert plain(pictures[-1].lines)[0] == "True 77 11"


def test_the_film_keeps_what_is_new_and_is_faster_where_nothing_is() -> None:
    age = [Picture(at / 4, ("a pool", f"{at}", "news")) for at in range(40)]
    end = [Picture(20.0, ("a pool", "news", "more")), Picture(20.01, ("a pool", "news", "end"))]
    pace = Pace(each_s=2, least_s=0.5, most_s=1, last_s=5)
    frames = cut([*age, *end], 2, pace)
    assert len(frames) == 1 + 4 + 1
    assert all(len(frame.lines) == 2 for frame in frames)
    assert frames[-1] == Frame(("news", "end"), 5)
    assert {frame.shown_s for frame in frames[:-1]} == {1}


def test_each_line_is_drawn_once_with_its_colour_and_the_last_frame_is_there_at_rest() -> None:
    frames = [Frame(("same", "\x1b[1;32ma < b\x1b[0m"), 1), Frame(("same", "  later"), 3)]
    svg = draw(frames, 20, 2, "a title", "what it shows")
    assert shown(svg) == ["same", "a < b", "later"]
    assert len(re.findall(r"<use ", svg)) == 4
    assert re.search(r"\{fill:#[0-9a-f]{6};font-weight:bold\}", svg)
    assert ".film{transform:translateY(-36px);animation:film 4.00s" in svg
    assert "0.000%{transform:translateY(-0px)}25.000%{transform:translateY(-36px)}" in svg


def test_the_recording_in_the_documentation_is_of_a_run_in_which_all_of_it_happened() -> None:
    lines = shown(DEMO.read_text())
    assert any(line.startswith("All of it happened.") for line in lines)
    assert sum(line.startswith("ok") for line in lines) == 13
    assert not any(line.startswith("FAILED") for line in lines)
    assert any("kill -9" in line for line in lines)
    assert DEMO.stat().st_size < 150_000
