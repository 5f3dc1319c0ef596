"""Points in time as notices have them: three formats of the clouds, and Slurm's.

Everything becomes seconds since the epoch, UTC, by this machine's clock.

- RFC 3339, `2017-09-18T08:22:00Z`: AWS spot and rebalance, GCE, Kubernetes.
- `21 Jan 2019 09:00:43 GMT`: AWS scheduled events.
- RFC 1123, `Mon, 19 Sep 2016 18:29:47 GMT`: Azure, and the `Date` of every HTTP answer.
- Slurm: UNIX seconds in the environment, `2026-11-21T15:00:00` in local time elsewhere.

A time without a zone is UTC from a cloud, and local from Slurm.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

SKEW_LEAST_S = 2.0
"""A `Date` header is a whole second, and some way old: less than this is no difference."""

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
_SECONDS = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)


def parse_time(text: str) -> float:
    """Read a point in time in any of the clouds' formats.

    Returns:
        Seconds since the epoch, by the clock of whoever wrote it.

    Raises:
        ValueError: It is none of them.
    """
    text = text.strip()
    try:
        if _RFC3339.fullmatch(text):
            return _seconds(datetime.fromisoformat(text.upper()))
        return _seconds(parsedate_to_datetime(text))
    except (TypeError, OverflowError, IndexError) as error:
        raise ValueError(f"{text[:40]!r} is no time: {error}") from error


def parse_slurm_time(text: str) -> float | None:
    """Read a time of Slurm: UNIX seconds, or local time as `squeue` and `scontrol` print it.

    Returns:
        Seconds since the epoch; None where Slurm says that there is none.

    Raises:
        ValueError: It is neither.
    """
    text = text.strip()
    if text in ("", "N/A", "NONE", "None", "Unknown", "UNLIMITED", "(null)", "0"):
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no time of Slurm")
    try:
        return datetime.fromisoformat(text).timestamp()
    except (OverflowError, OSError) as error:
        raise ValueError(f"{text[:40]!r} is no time of Slurm: {error}") from error


def skew_of(date: str | None, now: float) -> float:
    """Say by how many seconds a server's clock is ahead of ours.

    Args:
        date: The `Date` header of its answer, if it has one.
        now: When the answer came, in UNIX seconds.

    Returns:
        Seconds; 0 for a difference that the header is too coarse to tell, or without one.
    """
    if date is None:
        return 0.0
    try:
        skew = parse_time(date) - now
    except ValueError:
        return 0.0
    return skew if abs(skew) > SKEW_LEAST_S and math.isfinite(skew) else 0.0


def deadline_at(text: object, now: float, skew_s: float, otherwise_s: float) -> float:
    """Return when a node goes: what the text says, by our own clock, and never in the past.

    Args:
        text: The source's own words; anything may stand there.
        now: UNIX seconds.
        skew_s: By how much the source's clock is ahead.
        otherwise_s: What the platform promises at least, for words that are no time.
    """
    try:
        said = parse_time(text) - skew_s if isinstance(text, str) else now + otherwise_s
    except ValueError:
        said = now + otherwise_s
    return max(said, now)


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
