"""Pick the pictures that tell something, and draw them as one SVG that plays by itself.

It needs no script and no font of its own, so that a README can show it. Each line is drawn once,
however many pictures it stands in; pictures lie below each other as on a strip of film, of which a
window shows one. Who prefers no motion, or cannot play it, sees the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from xml.sax.saxutils import escape

from rich.color import blend_rgb
from rich.color_triplet import ColorTriplet
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from benchmarks.recording.terminal import Picture

COLUMN, ROW, SIZE = 8.43, 18, 14
MARGIN, BAR = 16, 34
BACKGROUND, FOREGROUND = (27, 30, 38), (214, 218, 226)
THEME = TerminalTheme(
    BACKGROUND,
    FOREGROUND,
    [
        (27, 30, 38), (237, 112, 116), (126, 200, 110), (229, 192, 93),
        (106, 167, 245), (205, 147, 240), (92, 197, 206), (214, 218, 226),
    ],
)  # fmt: skip
"""Its colours in their order: black, red, green, yellow, blue, magenta, cyan, white."""
DIM = 0.35
FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"


@dataclass(frozen=True, slots=True)
class Pace:
    """Say which pictures are kept, and how long each is shown.

    Args:
        each_s: At least one is kept in so many seconds of the run, if there is one.
        least_s: Each is shown so long at least.
        most_s: And so long at most; where nothing happens, the film is faster than the run.
        last_s: The last one is shown so long.
    """

    each_s: float = 1.0
    least_s: float = 0.4
    most_s: float = 1.2
    last_s: float = 14.0


@dataclass(frozen=True, slots=True)
class Frame:
    """Show lines for a time."""

    lines: tuple[str, ...]
    shown_s: float


def cut(pictures: Sequence[Picture], rows: int, pace: Pace) -> list[Frame]:
    """Keep a picture where a line came or went that is not merely an older age, and the last one.

    Args:
        pictures: All of them, in order.
        rows: How many rows the window has; of a longer picture the last ones are seen.
        pace: What to keep, and for how long.

    Returns:
        The frames of the film.
    """
    kept: list[Picture] = []
    for picture, following in pairwise([*pictures, None]):
        assert picture is not None
        # What is written over within a moment, nobody has seen.
        if following is not None and following.at_s - picture.at_s < 0.05:
            continue
        if (
            not kept
            or following is None
            or len(picture.lines) != len(kept[-1].lines)
            or picture.lines[-1] != kept[-1].lines[-1]
            or picture.at_s - kept[-1].at_s >= pace.each_s
        ):
            kept.append(picture)
    frames = []
    for picture, following in pairwise([*kept, None]):
        assert picture is not None
        shown_s = pace.last_s
        if following is not None:
            shown_s = min(pace.most_s, max(pace.least_s, following.at_s - picture.at_s))
        lines = list(picture.lines)
        while lines and not Text.from_ansi(lines[-1]).plain.strip():
            lines.pop()
        frames.append(Frame(tuple(lines[-rows:]), shown_s))
    return [frame for frame in frames if frame.lines]


def draw(frames: Sequence[Frame], columns: int, rows: int, title: str, description: str) -> str:
    """Draw a film.

    Args:
        frames: What it shows; one at least.
        columns: How wide the window is, in characters.
        rows: How high.
        title: What its bar says.
        description: What it shows, for who cannot see it.

    Returns:
        The text of an SVG file.
    """
    width = round(columns * COLUMN) + 2 * MARGIN
    height = rows * ROW + BAR + MARGIN
    step = rows * ROW
    ink = _Ink()
    strip = [
        f'<use href="#{ink.line(line)}" y="{number * step + row * ROW}"/>'
        for number, frame in enumerate(frames)
        for row, line in enumerate(frame.lines)
        if Text.from_ansi(line).plain.strip()
    ]
    whole_s = sum(frame.shown_s for frame in frames)
    styles = [
        f"text{{font:{SIZE}px {FONTS};white-space:pre;fill:{_hex(ColorTriplet(*FOREGROUND))}}}",
        *ink.styles(),
        f".film{{transform:translateY(-{(len(frames) - 1) * step}px);"
        f"animation:film {whole_s:.2f}s step-end infinite}}",
        f"@keyframes film{{{''.join(_keyframes(frames, whole_s, step))}}}",
        "@media(prefers-reduced-motion:reduce){.film{animation:none}}",
    ]
    dots = [
        f'<circle cx="{MARGIN + 4 + 18 * place}" cy="{BAR // 2}" r="5.5" fill="{color}"/>'
        for place, color in enumerate(("#ed7074", "#e5c05d", "#7ec86e"))
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" xml:space="preserve">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f"<style>{''.join(styles)}</style>",
            f"<defs>{''.join(ink.texts())}",
            f'<clipPath id="window"><rect width="{width}" height="{step}"/></clipPath></defs>',
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="9" '
            f'fill="{_hex(ColorTriplet(*BACKGROUND))}" stroke="#8a90a0" stroke-opacity=".5"/>',
            *dots,
            f'<text x="{width / 2}" y="{BAR // 2 + 5}" text-anchor="middle" opacity=".6">'
            f"{escape(title)}</text>",
            f'<g transform="translate(0 {BAR})" clip-path="url(#window)"><g class="film">',
            *strip,
            "</g></g>",
            "</svg>\n",
        ]
    )


def _keyframes(frames: Sequence[Frame], whole_s: float, step: int) -> Iterator[str]:
    at_s = 0.0
    for number, frame in enumerate(frames):
        yield f"{at_s / whole_s:.3%}{{transform:translateY(-{number * step}px)}}"
        at_s += frame.shown_s


@dataclass(slots=True)
class _Ink:
    """Hold each line and each style once."""

    _lines: dict[str, str] = field(default_factory=dict)
    _styles: dict[str, str] = field(default_factory=dict)

    def line(self, line: str) -> str:
        """Return the id of a line."""
        text = "".join(self._spans(line))
        return self._lines.setdefault(text, f"l{len(self._lines)}")

    def texts(self) -> Iterator[str]:
        for text, name in self._lines.items():
            yield f'<text id="{name}">{text}</text>\n'

    def styles(self) -> Iterator[str]:
        for style, name in self._styles.items():
            yield f".{name}{{{style}}}"

    def _spans(self, line: str) -> Iterator[str]:
        text = Text.from_ansi(line)
        bounds = sorted({0, len(text), *(end for span in text.spans for end in span[:2])})
        for start, end in pairwise(bounds):
            part = text.plain[start:end]
            if not part.strip():
                continue
            indent = len(part) - len(part.lstrip())
            x = MARGIN + (start + indent) * COLUMN
            styles = [
                Style.parse(str(span.style))
                for span in text.spans
                if span.start <= start and end <= span.end
            ]
            css = _css(Style.combine([Style.null(), *styles]))
            kind = (
                f' class="{self._styles.setdefault(css, f"s{len(self._styles)}")}"' if css else ""
            )
            yield f'<tspan x="{x:.1f}" y="{SIZE}"{kind}>{escape(part.strip())}</tspan>'


def _css(style: Style) -> str:
    color = ColorTriplet(*FOREGROUND)
    if style.color is not None:
        color = style.color.get_truecolor(THEME)
    if style.dim:
        color = blend_rgb(color, ColorTriplet(*BACKGROUND), DIM)
    css = "" if color == ColorTriplet(*FOREGROUND) else f"fill:{_hex(color)}"
    return css + (";font-weight:bold" if style.bold else "")


def _hex(color: ColorTriplet) -> str:
    return color.hex
