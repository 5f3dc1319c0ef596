"""Points in time: three formats of the clouds, Slurm's seconds, and clocks that differ."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.notices.deadlines import deadline_at, parse_slurm_time, parse_time, skew_of


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2017-09-18T08:22:00Z", utc(2017, 9, 18, 8, 22)),
        ("2017-09-18T08:22:00.5z", utc(2017, 9, 18, 8, 22) + 0.5),
        ("2017-09-18T08:22:00", utc(2017, 9, 18, 8, 22)),
        ("2017-09-18T10:22:00+02:00", utc(2017, 9, 18, 8, 22)),
        ("2017-09-18T00:22:00-08:00", utc(2017, 9, 18, 8, 22)),
        ("2017-09-18T13:52:00+0530", utc(2017, 9, 18, 8, 22)),
        ("21 Jan 2019 09:00:43 GMT", utc(2019, 1, 21, 9, 0, 43)),
        ("Mon, 19 Sep 2016 18:29:47 GMT", utc(2016, 9, 19, 18, 29, 47)),
        (" Mon, 19 Sep 2016 18:29:47 +0000\n", utc(2016, 9, 19, 18, 29, 47)),
        ("Mon, 19 Sep 2016 20:29:47 +0200", utc(2016, 9, 19, 18, 29, 47)),
    ],
)
def test_the_vendors_formats_are_read_with_their_zones(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@given(st.text() | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)?"))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    for parse in (parse_time, parse_slurm_time):
        try:
            seconds = parse(text)
        except ValueError:
            continue
        assert seconds is None or math.isfinite(seconds)


@given(st.integers(0, 4_000_000_000))
def test_a_time_written_in_each_format_is_read_as_itself(seconds: int) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert parse_time(moment.strftime("%Y-%m-%dT%H:%M:%SZ")) == seconds
    assert parse_time(moment.strftime("%d %b %Y %H:%M:%S GMT")) == seconds
    assert parse_time(formatdate(seconds, usegmt=True)) == seconds
    assert parse_slurm_time(str(seconds)) == (seconds or None)


def test_slurm_prints_local_time_and_has_words_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert parse_slurm_time("2026-11-21T15:00:00") == utc(2026, 11, 21, 9, 30)
    finally:
        monkeypatch.undo()
        time.tzset()
    for none in ("N/A", "NONE", "Unknown", "UNLIMITED", ""):
        assert parse_slurm_time(none) is None


def test_a_clock_that_is_ahead_is_told_by_its_date_header() -> None:
    now = 1_700_000_000.0
    assert skew_of(formatdate(now + 600, usegmt=True), now) == 600
    assert skew_of(formatdate(now - 600, usegmt=True), now) == -600
    assert skew_of(formatdate(now + 1, usegmt=True), now) == 0, "too coarse to tell"
    assert skew_of("yesterday", now) == skew_of(None, now) == 0


def test_a_deadline_is_ours_and_never_in_the_past() -> None:
    now = utc(2026, 1, 1)
    assert deadline_at("2026-01-01T00:10:30Z", now, 600.0, 5.0) == now + 30
    assert deadline_at("2025-01-01T00:00:00Z", now, 0.0, 5.0) == now
    assert deadline_at("soon", now, 0.0, 5.0) == now + 5
    assert deadline_at(None, now, 0.0, 5.0) == now + 5
