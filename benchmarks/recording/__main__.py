"""Record `pool demo` as docs/demo.svg: `python -m benchmarks.recording`.

It runs the demo on a terminal of its own, and draws nothing unless the demo says that all of it
happened.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.recording.film import Pace, cut, draw
from benchmarks.recording.terminal import record

COLUMNS, ROWS = 100, 32
TO = Path(__file__).parents[2] / "docs" / "demo.svg"
ENVIRONMENT = {
    "TERM": "xterm-256color",
    "COLORTERM": "",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}
DESCRIPTION = (
    "A recording of pool demo on a terminal: the tree of slots, members and hosts while the pool "
    "grows, a node host is killed, and a node gets a notice; then the report, each line of which "
    "says ok."
)


def main() -> None:
    """Run, draw, and say how large it became."""
    pictures, status = record(
        [sys.executable, "-m", "pool.cli", "demo"], COLUMNS, ROWS, ENVIRONMENT
    )
    if status:
        sys.exit(f"pool demo ended with {status}: nothing is drawn. Run it to see why.")
    frames = cut(pictures, ROWS, Pace())
    TO.write_text(draw(frames, COLUMNS, ROWS, "pool demo", DESCRIPTION))
    print(f"{len(pictures)} pictures, {len(frames)} frames, {TO.stat().st_size / 1e3:.0f} kB: {TO}")


if __name__ == "__main__":
    main()
