"""A fake of AWS EC2's instance metadata service, version 2."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pool.testing.notices.server import FakeService, Question, Said

TTL = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "x-aws-ec2-metadata-token"  # noqa: S105 - the name of a header
ROOT = "/latest/meta-data/"
LONGEST_TTL_S = 21_600


class FakeAws(FakeService):
    """Answer as IMDSv2 does: a token first, 401 without a good one, and 404 while nothing is said.

    Attributes:
        disabled: Whether it answers everything with 403, as where it was switched off.
    """

    def __init__(self) -> None:
        super().__init__()
        self.disabled = False
        self._later_s = 0.0
        self._tokens: dict[str, float] = {}
        self._values: dict[str, str] = {
            "instance-id": "i-0123456789abcdef0",
            "events/maintenance/scheduled": "[]",
        }

    def set(self, path: str, value: str | None) -> None:
        """Change what stands below `/latest/meta-data/`; None takes it away."""
        if value is None:
            self._values.pop(path, None)
        else:
            self._values[path] = value

    def interrupt(self, in_s: float = 120.0, action: str = "terminate") -> None:
        """Announce a spot interruption."""
        at = self._time(in_s)
        self.set("spot/instance-action", json.dumps({"action": action, "time": at}))
        self.set("spot/termination-time", at)

    def recommend_rebalance(self) -> None:
        """Say that the instance is at a higher risk."""
        told = {"noticeTime": self._time(0.0)}
        self.set("events/recommendations/rebalance", json.dumps(told))

    def schedule(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Announce scheduled events."""
        self.set("events/maintenance/scheduled", json.dumps([dict(event) for event in events]))

    def withdraw(self) -> None:
        """Take all announcements back."""
        self.set("spot/instance-action", None)
        self.set("spot/termination-time", None)
        self.set("events/recommendations/rebalance", None)
        self.schedule([])

    def expire_tokens(self) -> None:
        """Let every token that was given out be over."""
        self._tokens.clear()

    def pass_time(self, seconds: float) -> None:
        """Let tokens get older by so many seconds."""
        self._later_s += seconds

    def _time(self, in_s: float) -> str:
        return datetime.fromtimestamp(self.now() + in_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _clock(self) -> float:
        return time.monotonic() + self._later_s

    def answer(self, question: Question) -> Said:
        if self.disabled:
            return Said(403, b"Forbidden")
        if question.path == "/latest/api/token":
            return self._give_token(question)
        if self._tokens.get(question.headers.get(TOKEN, ""), 0.0) <= self._clock():
            return Said(401, b"Unauthorized")
        value = self._values.get(question.path.removeprefix(ROOT))
        if question.method != "GET" or value is None or not question.path.startswith(ROOT):
            return Said(404, b"Not Found")
        return Said(200, value.encode(), {"Content-Type": "text/plain"})

    def _give_token(self, question: Question) -> Said:
        if question.method != "PUT" or "x-forwarded-for" in question.headers:
            return Said(403 if question.method == "PUT" else 405)
        ttl = question.headers.get(TTL, "")
        if not ttl.isdecimal() or not 1 <= int(ttl) <= LONGEST_TTL_S:
            return Said(400, b"Bad Request")
        token = secrets.token_urlsafe(40)
        self._tokens[token] = self._clock() + int(ttl)
        return Said(200, token.encode(), {TTL: ttl, "Content-Type": "text/plain"})
