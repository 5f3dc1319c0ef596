"""Draw what was measured: one SVG for each file in benchmarks/results that has ratios or goals.

Run it with `python -m benchmarks.plots`, or `nox -s plots`; it writes docs/explanation/plots. Bars
start at the line where both sides are equal, on a logarithmic axis: twice as fast is as long as
twice as slow. Text and bars are of a middle tone on nothing, so that they can be read on a light
page and on a dark one. Why not matplotlib: it is larger than all that we install, for some bars.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.harness import OUTPUT

TO = Path(__file__).parents[1] / "docs" / "explanation" / "plots"
WIDTH, SIDE, ROW, BAR, HEAD, FOOT = 760, 12, 60, 12, 34, 34
TEXT, FAINT, GOOD, PLAIN, MISSED = "#7d8590", "#8a929e", "#2f9e8f", "#5b8bc9", "#d9643a"
"""Of text, lines, what meets its goal, what has none, and what misses it."""
FONT = "-apple-system,'Segoe UI','Liberation Sans',Helvetica,Arial,sans-serif"
LEAST_RANGE = (0.5, 2.0)
STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Bar:
    """Compare one measurement.

    Args:
        name: What was measured.
        note: What it is compared with, if that is not the same for the whole panel.
        ratio: Its median over that.
        least: Likewise, its fastest round.
        most: And its slowest.
        goal: What the ratio is to stay under, if there is a goal.
    """

    name: str
    note: str
    ratio: float
    least: float
    most: float
    goal: float | None

    @property
    def color(self) -> str:
        """Whether it meets its goal."""
        if self.goal is None:
            return PLAIN
        return GOOD if self.ratio <= self.goal else MISSED

    @property
    def value(self) -> str:
        """The ratio in words."""
        digits = 2 if self.ratio >= 0.1 else 3
        goal = "" if self.goal is None or self.goal == 1 else f", goal {self.goal:.3g}"
        missed = ", missed" if self.color == MISSED else ""
        return f"{self.ratio:.{digits}f} ×{goal}{missed}"


@dataclass(frozen=True, slots=True)
class Panel:
    """Hold bars that mean the same.

    Args:
        title: What all of them say.
        line: What is at 1.
        bars: From top to bottom.
    """

    title: str
    line: str
    bars: tuple[Bar, ...]


def panels(document: Mapping[str, Any]) -> list[Panel]:
    """Return what there is to draw of one file of results; nothing if nothing is compared."""
    if "measured" not in document:
        return []  # what a soak writes, say
    measured = {each["name"]: each for each in document["measured"]}
    beside, goals = [], []
    for each in measured.values():
        peer = measured.get(each.get("beside") or "")
        if peer is not None:
            note = f"beside {peer['name'].strip()}, {_seconds(peer['median_s'])}"
            beside.append(_bar(each, note, peer["median_s"], each.get("goal_ratio")))
        if each.get("goal_s") is not None:
            note = f"goal {_seconds(each['goal_s'])}"
            goals.append(_bar(each, note, each["goal_s"], 1.0))
    found = [
        Panel(f"{document['title']}: time against another way", "as long", tuple(beside)),
        Panel(f"{document['title']}: time against its goal", "the goal", tuple(goals)),
    ]
    return [panel for panel in found if panel.bars]


def _bar(each: Mapping[str, Any], note: str, whole_s: float, goal: float | None) -> Bar:
    rounds = each["rounds_s"]
    return Bar(
        name=f"{each['name'].strip()}, {_seconds(each['median_s'])}",
        note=note,
        ratio=each["median_s"] / whole_s,
        least=min(rounds) / whole_s,
        most=max(rounds) / whole_s,
        goal=goal,
    )


def _seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def draw(drawn: Iterable[Panel], caption: str) -> str:
    """Draw panels below each other.

    Args:
        drawn: The panels; one at least.
        caption: What holds for all of them.

    Returns:
        The text of an SVG file.
    """
    body: list[str] = []
    top = 0
    title = ""
    for panel in drawn:
        title = title or panel.title
        body += _panel(panel, top)
        top += HEAD + ROW * len(panel.bars) + FOOT
    body.append(_text(SIDE, top + 14, caption, size=12))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 24}" '
            f'width="{WIDTH}" height="{top + 24}" role="img" font-family="{FONT}">',
            f"<title>{escape(title)}</title>",
            *body,
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, top: int) -> Iterator[str]:
    x = _axis(panel)
    ticks = list(_ticks(panel))
    yield _text(SIDE, top + 18, panel.title, size=15, weight="600")
    for number, bar in enumerate(panel.bars):
        y = top + HEAD + ROW * number
        yield _text(SIDE, y + 14, bar.name)
        yield _text(WIDTH - SIDE, y + 14, bar.value, anchor="end", fill=bar.color, weight="600")
        # Beside each bar alone: a line through text makes it hard to read.
        for tick in ticks:
            yield _rule(x(tick), y + 17, y + 23 + BAR, FAINT, 2 if tick == 1 else 0.6)
        left, right = sorted((x(1), x(bar.ratio)))
        yield (
            f'<rect x="{left:.1f}" y="{y + 20}" width="{max(1, right - left):.1f}" '
            f'height="{BAR}" rx="2" fill="{bar.color}"/>'
        )
        middle = y + 20 + BAR / 2
        yield (
            f'<path d="M{x(bar.least):.1f} {middle}H{x(bar.most):.1f}" stroke="{TEXT}" '
            'stroke-width="1.5"/>'
        )
        if bar.goal is not None and bar.goal != 1:
            yield _rule(x(bar.goal), y + 17, y + 23 + BAR, GOOD, 3)
        yield _text(SIDE, y + 46, bar.note, size=11)
    bottom = top + HEAD + ROW * len(panel.bars)
    for tick in ticks:
        label = panel.line if tick == 1 else f"{tick:g} ×"
        yield _text(x(tick), bottom + 8, label, anchor="middle", size=12)


def _axis(panel: Panel) -> Callable[[float], float]:
    low, high = (math.log(end) for end in _range(panel))

    def x(ratio: float) -> float:
        return SIDE + (math.log(ratio) - low) / (high - low) * (WIDTH - 2 * SIDE)

    return x


def _range(panel: Panel) -> tuple[float, float]:
    every = [value for bar in panel.bars for value in (bar.least, bar.most, bar.goal or 1)]
    return min(LEAST_RANGE[0], *every) / 1.15, max(LEAST_RANGE[1], *every) * 1.15


def _ticks(panel: Panel) -> Iterator[float]:
    low, high = _range(panel)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = STEPS if high / low < 100 else STEPS[:1]
    for decade in decades:
        for step in steps:
            tick = float(f"{step}e{decade}")
            # One at the very edge would be cut.
            if low * 1.1 <= tick <= high / 1.1:
                yield tick


def _text(x: float, y: float, text: str, **how: object) -> str:
    size, fill = how.get("size", 13), how.get("fill", TEXT)
    weight = f' font-weight="{how["weight"]}"' if "weight" in how else ""
    anchor = f' text-anchor="{how["anchor"]}"' if "anchor" in how else ""
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" fill="{fill}"{weight}{anchor}>'
        f"{escape(text)}</text>"
    )


def _rule(x: float, top: float, bottom: float, color: str, width: float) -> str:
    return f'<path d="M{x:.1f} {top}V{bottom}" stroke="{color}" stroke-width="{width}"/>'


def caption(document: Mapping[str, Any]) -> str:
    """Say what was measured on."""
    machine = document["machine"]
    return (
        f"Bar: median, thin line: least to most, green tick: goal. {machine['cores']} shared "
        f"cores at a load of {machine['load']:.0f}, Ray {machine['ray']}. Left is faster."
    )


def main(results: Path = OUTPUT, to: Path = TO) -> list[Path]:
    """Draw what is there, and return the files written."""
    to.mkdir(parents=True, exist_ok=True)
    written = []
    for path in sorted(results.glob("*.json")):
        document = json.loads(path.read_text())
        drawn = panels(document)
        if not drawn:
            print(f"{path.name}: nothing is compared in it")
            continue
        target = to / f"{path.stem}.svg"
        target.write_text(draw(drawn, caption(document)))
        print(target)
        written.append(target)
    return written


if __name__ == "__main__":
    main(*(Path(name) for name in sys.argv[1:]))
