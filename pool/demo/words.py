"""A pool's events and a demo's end, in words: lines for whoever reads along."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import pool
from pool.demo.checks import Check, in_words
from pool.demo.corpus import Count, total
from pool.demo.record import Record
from pool.demo.story import Step

WIDTH = 100
LARGEST = 5
"""How many packages are listed by name."""


def event_in_words(event: pool.Event) -> str | None:
    """Say what happened, in a line; None for what a reader of the demo need not know."""
    who = f"{event.slot}.{event.generation}"
    facts = event.facts
    match event.kind:
        case pool.EventKind.POOL_SCALED:
            text = f"the pool is to have {facts['desired']} replicas: {facts['reason']}"
        case pool.EventKind.SLOT_OPENED if facts["rank"] is None:
            text = f"slot {event.slot} is opened: {facts['reason']}"
        case pool.EventKind.SLOT_RETIRED:
            text = f"slot {event.slot} is given up: {facts['reason']}"
        case pool.EventKind.MEMBER_STATE if facts["state"] != pool.State.PENDING:
            text = f"{who} {facts['state']}: {facts['reason']}"
        case pool.EventKind.MEMBER_FAULT:
            text = f"{who} failed ({facts['cause']}): {facts['reason']}"
        case pool.EventKind.MEMBER_NOTICE:
            text = f"{who} has a {facts['notice']}"
        case pool.EventKind.SLOT_WAITING:
            text = f"slot {event.slot} waits: {facts['reason']}"
        case pool.EventKind.RESTART_PLANNED:
            text = f"slot {event.slot} is filled again in {facts['in_s']} s"
        case pool.EventKind.POOL_FAILED | pool.EventKind.LEFTOVER:
            text = str(event)
        case _:
            return None
    return textwrap.shorten(text, WIDTH - 12, placeholder=" …")


def report_in_words(record: Record, checks: Sequence[Check]) -> Iterator[str]:
    """Write the report, line by line."""
    if record.serial:
        yield ""
        yield from _table(
            ("package", "files", "lines", "functions", "classes"), list(_counts(record))
        )
    if record.steps:
        yield ""
        yield from _table(
            ("what was done", "detected", "whole again", "old one gone", "untouched"),
            [_cost(step) for step in record.steps],
        )
    yield ""
    width = max(len(check.name) for check in checks)
    for check in checks:
        yield f"{'ok    ' if check.ok else 'FAILED'} {check.name:<{width}}  {check.detail}"
    yield ""
    if record.error is not None:
        yield f"The demo ended early: {record.error}"
    took = record.took_s.get("total", 0.0)
    failed = sum(not check.ok for check in checks)
    verdict = "All of it happened." if not failed else f"{failed} of {len(checks)} checks failed."
    yield f"{verdict} It took {took:.0f} s{_phases(record)}."


def _counts(record: Record) -> Iterator[tuple[str, ...]]:
    whole = total(record.serial)
    largest = sorted(record.serial.items(), key=lambda entry: -entry[1].lines)
    for package, counted in largest[:LARGEST]:
        yield _row(package, counted)
    rest = total(dict(largest[LARGEST:]))
    yield _row(f"{max(0, len(largest) - LARGEST)} others", rest)
    yield _row(f"all ({whole.unparsable} files do not parse)", whole)


def _row(name: str, counted: Count) -> tuple[str, ...]:
    numbers = (counted.files, counted.lines, counted.functions, counted.classes)
    return (name, *(f"{number:,}" for number in numbers))


def _cost(step: Step) -> tuple[str, ...]:
    def after(at: float | None) -> str:
        return "–" if at is None else in_words(at - step.at)

    # As the story names members: by slot and generation, without the pool.
    untouched = ", ".join(member.rpartition("/")[2] for member in step.untouched) or "–"
    what = textwrap.shorten(step.what, 58, placeholder=" …")
    return what, after(step.detected_at), after(step.ready_at), after(step.left_at), untouched


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *others]).rstrip()


def _phases(record: Record) -> str:
    words = {"cluster": "to start the cluster", "pool": "the pool", "map": "of work"}
    parts = [
        f"{record.took_s[key]:.0f} s {text}" for key, text in words.items() if key in record.took_s
    ]
    return f" ({', '.join(parts)})" if parts else ""
