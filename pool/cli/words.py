"""How amounts, times and states are written for people."""

from __future__ import annotations

from collections.abc import Mapping

from pool.planning.lifecycle import State

STYLES = {
    State.READY: "green",
    State.SUSPECT: "yellow",
    State.DRAINING: "yellow",
    State.STOPPING: "yellow",
    State.PENDING: "cyan",
    State.STARTING: "cyan",
    State.GONE: "dim",
}
STATUS_STYLES = {
    "running": "green",
    "closing": "yellow",
    "no owner": "yellow",
    "owner silent": "red",
    "owner gone": "red",
    "unknown": "dim",
}


def duration(seconds: float) -> str:
    """Write a span of time in its two largest units: `4.2 s`, `12 s`, `3 min 5 s`, `2 h 4 min`."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    rest = whole % 60
    return f"{whole // 60} min" + (f" {rest} s" if rest else "")


def amounts(held: Mapping[str, float]) -> str:
    """Write what a bundle holds: `GPU 4, CPU 8`."""
    order = sorted(held, key=lambda name: (name in ("CPU", "memory"), name))
    return ", ".join(
        f"memory {held[name] / 2**30:.4g} GiB" if name == "memory" else f"{name} {held[name]:g}"
        for name in order
    )


def count(number: int, what: str) -> str:
    """Write how many there are: `1 actor`, `2 actors`."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def short(node_id: str) -> str:
    """Shorten a node's id to what tells it from the others."""
    return node_id[:8]
