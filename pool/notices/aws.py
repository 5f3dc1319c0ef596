"""AWS EC2: spot interruptions, rebalance recommendations and scheduled events, by IMDSv2.

After the EC2 user guide: "Spot Instance interruption notices", "EC2 instance rebalance
recommendations", "View scheduled events" and "Use IMDSv2". Each question carries a token, which is
asked for first, and again when it is refused. A 404 is the normal answer: nothing is announced.

A container behind a bridge is one hop too far for the default hop limit of 1: its questions get no
answer at all. Give the instance a hop limit of 2.
"""

from __future__ import annotations

import time

from pool.errors import SourceUnavailable
from pool.notices.deadlines import deadline_at
from pool.notices.http_source import HttpNoticeSource, fields_of, read_json, trouble_of, words
from pool.notices.service import Reply
from pool.planning.notice import Notice, NoticeKind

URL = "http://169.254.169.254"
TOKEN_TTL_S = 3600
EARLY_S = 15.0
"""How long before its end a token is renewed; both as AWS's node termination handler has them."""
SPOT_LEAD_S = 120.0
TIMEOUT_S = 2.0


class AwsSource(HttpNoticeSource):
    """Ask for one path of the instance metadata service, with a token."""

    path: str

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._token, self._token_until = "", 0.0

    async def ask(self) -> Reply:
        if time.monotonic() > self._token_until:
            await self._renew_token()
        reply = await self._get()
        if reply.status == 401:
            # It ended early, as with an instance that was stopped meanwhile: anew, and once.
            await self._renew_token()
            reply = await self._get()
        return reply

    async def _get(self) -> Reply:
        headers = {"X-aws-ec2-metadata-token": self._token}
        path = f"/latest/meta-data/{self.path}"
        return await self.service.ask(path, headers=headers, timeout_s=self.timeout_s)

    async def _renew_token(self) -> None:
        self._token_until = 0.0
        self._token = await ask_token(self)
        self._token_until = time.monotonic() + TOKEN_TTL_S - EARLY_S


async def ask_token(source: HttpNoticeSource) -> str:
    """Ask for a token.

    Raises:
        SourceUnavailable: None is given.
    """
    reply = await source.service.ask(
        "/latest/api/token",
        method="PUT",
        headers={"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)},
        timeout_s=source.timeout_s,
    )
    if reply.status != 200 or not reply.text.isprintable() or not reply.text.isascii():
        raise SourceUnavailable(f"{source.name}: no token: {trouble_of(reply)}")
    return reply.text


class AwsSpotInterruption(AwsSource):
    """Hear that this spot instance is taken away, two minutes before.

    Args:
        url: The instance metadata service; give another to test against a fake.
        period_s: Seconds between two questions; AWS recommends 5.
        timeout_s: How many seconds the service may be silent.
    """

    path = "spot/instance-action"

    def __init__(self, url: str = URL, period_s: float = 5.0, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__("aws:spot", url, period_s, timeout_s)

    def parse(self, reply: Reply) -> Notice | None:
        return parse_instance_action(reply, self.name)


class AwsRebalance(AwsSource):
    """Hear that this spot instance is at a higher risk than before. It may well stay.

    Args:
        url: The instance metadata service.
        period_s: Seconds between two questions.
        timeout_s: How many seconds the service may be silent.
    """

    path = "events/recommendations/rebalance"

    def __init__(self, url: str = URL, period_s: float = 5.0, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__("aws:rebalance", url, period_s, timeout_s)

    def parse(self, reply: Reply) -> Notice | None:
        return parse_rebalance(reply, self.name)


class AwsMaintenance(AwsSource):
    """Hear of scheduled events of this instance, days before.

    Args:
        url: The instance metadata service.
        period_s: Seconds between two questions.
        timeout_s: How many seconds the service may be silent.
    """

    path = "events/maintenance/scheduled"

    def __init__(
        self, url: str = URL, period_s: float = 60.0, timeout_s: float = TIMEOUT_S
    ) -> None:
        super().__init__("aws:maintenance", url, period_s, timeout_s)

    def parse(self, reply: Reply) -> Notice | None:
        return parse_scheduled(reply, self.name)


def parse_instance_action(reply: Reply, name: str) -> Notice | None:
    """Read `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`."""
    told = fields_of(read_json(reply, name), name)
    action = told.get("action")
    if action == "none":
        return None
    if not isinstance(action, str):
        raise SourceUnavailable(f"{name}: its answer has no action: {reply.text[:100]}")
    now = reply.at
    # Hibernation begins at once; what is said of its time is when the instance is off.
    at_once = action == "hibernate"
    return Notice(
        kind=NoticeKind.PREEMPT,
        deadline=now if at_once else deadline_at(told.get("time"), now, reply.skew_s, SPOT_LEAD_S),
        source=name,
        reason=words("spot instance action", action),
    )


def parse_rebalance(reply: Reply, name: str) -> Notice | None:
    """Read `{"noticeTime": "2020-10-27T08:22:00Z"}`, which is when it was said, and no more."""
    told = fields_of(read_json(reply, name), name)
    if "noticeTime" not in told:
        raise SourceUnavailable(f"{name}: its answer has no noticeTime: {reply.text[:100]}")
    return Notice(
        kind=NoticeKind.REBALANCE,
        source=name,
        reason=words("rebalance recommended at", told["noticeTime"]),
        advisory=True,
    )


def parse_scheduled(reply: Reply, name: str) -> Notice | None:
    """Read the list of scheduled events; the first that is active counts."""
    events = read_json(reply, name)
    if not isinstance(events, list):
        raise SourceUnavailable(f"{name}: its answer is {reply.text[:100]!r}, and no list")
    found = [
        Notice(
            kind=NoticeKind.MAINTENANCE,
            deadline=deadline_at(event.get("NotBefore"), reply.at, reply.skew_s, 0.0),
            source=name,
            reason=words(event.get("Code"), event.get("EventId"), event.get("Description")),
        )
        for event in events
        if isinstance(event, dict) and event.get("State") == "active"
    ]
    return min(found, key=lambda notice: notice.deadline or 0.0, default=None)


def aws(url: str = URL) -> tuple[AwsSource, ...]:
    """Return all sources of AWS EC2."""
    return (AwsSpotInterruption(url), AwsRebalance(url), AwsMaintenance(url))
