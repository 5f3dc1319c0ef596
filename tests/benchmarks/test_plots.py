"""The plots: what is compared is drawn where its ratio is, and says whether it meets its goal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.harness import OUTPUT
from benchmarks.plots import GOOD, MISSED, PLAIN, TO, Bar, draw, main, panels

SVG = "{http://www.w3.org/2000/svg}"


def row(name: str, *rounds_s: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "median_s": sorted(rounds_s)[len(rounds_s) // 2], **more} | {
        "rounds_s": list(rounds_s)
    }


DOCUMENT: dict[str, Any] = {
    "title": "Some",
    "machine": {"python": "3.11.7", "cores": 2, "load": 4.2, "ray": "2.60.0", "pool": "1"},
    "facts": {},
    "measured": [
        row("ours <fast>", 0.9, 1.0, 1.1, beside="  theirs", goal_ratio=1.15),
        row("  theirs", 1.8, 2.0, 2.4),
        row("slow", 6.0, beside="  theirs", goal_ratio=1.15, goal_s=8.0),
        row("late", 3.0, beside="  theirs"),
        row("alone", 5.0),
    ],
}


def test_what_is_compared_is_found_with_its_spread_and_its_goal() -> None:
    beside, goals = panels(DOCUMENT)
    assert [(bar.ratio, bar.goal, bar.color) for bar in beside.bars] == [
        (0.5, 1.15, GOOD),
        (3.0, 1.15, MISSED),
        (1.5, None, PLAIN),
    ]
    assert (beside.bars[0].least, beside.bars[0].most) == (0.45, 0.55)
    assert [bar.value for bar in beside.bars] == [
        "0.50 ×, goal 1.15",
        "3.00 ×, goal 1.15, missed",
        "1.50 ×",
    ]
    assert goals.bars == (Bar("slow, 6 s", "goal 8 s", 0.75, 0.75, 0.75, 1.0),)


def test_bars_go_from_the_line_as_far_to_the_left_as_to_the_right() -> None:
    rows = [
        row("twice as fast", 1.0, beside="theirs"),
        row("twice as slow", 4.0, beside="theirs"),
        row("theirs", 2.0),
    ]
    root = ElementTree.fromstring(draw(panels({**DOCUMENT, "measured": rows}), "about"))
    fast, slow = root.findall(f"{SVG}rect")
    line = float(slow.attrib["x"])
    assert float(fast.attrib["x"]) + float(fast.attrib["width"]) == pytest.approx(line, abs=0.2)
    assert float(fast.attrib["width"]) == pytest.approx(float(slow.attrib["width"]), abs=0.2)


def test_each_file_with_something_to_compare_becomes_a_picture(tmp_path: Path) -> None:
    (tmp_path / "some.json").write_text(json.dumps(DOCUMENT))
    alone = {**DOCUMENT, "measured": [row("alone", 5.0)]}
    (tmp_path / "other.json").write_text(json.dumps(alone))
    [written] = main(tmp_path, tmp_path / "plots")
    assert written.name == "some.svg"
    text = "".join(ElementTree.fromstring(written.read_text()).itertext())
    assert "ours <fast>, 1 s" in text
    assert "2 shared cores at a load of 4, Ray 2.60.0" in text


def test_the_pictures_in_the_documentation_are_of_the_results_beside_them(tmp_path: Path) -> None:
    drawn = {path.name: path.read_text() for path in main(OUTPUT, tmp_path)}
    assert drawn
    shown = {path.name: path.read_text() for path in TO.glob("*.svg")}
    assert drawn == shown, "the results are newer: run nox -s plots"
