"""Google Compute Engine: preemption and maintenance, from the metadata server.

After Google's "Query VM metadata", "Spot VMs" and "Monitor and plan for a host maintenance event".
Each value is asked for with `wait_for_change`: the server answers at once when it changes, and with
the old value when nothing has changed for `hang_s` seconds. So a preemption is known within
milliseconds, which matters with 30 s in all.
"""

from __future__ import annotations

import time
from typing import ClassVar

from pool.errors import SourceUnavailable
from pool.notices.deadlines import deadline_at
from pool.notices.http_source import HttpNoticeSource, fields_of, positive, read_json, words
from pool.notices.service import Reply
from pool.planning.notice import Notice, NoticeKind

URL = "http://169.254.169.254"
"""By its address, for `metadata.google.internal` needs a name server that may be away."""
HEADERS = {"Metadata-Flavor": "Google"}
"""Without it the server refuses; it is how it knows that no redirect led here."""
CLIENT_SLACK_S = 10.0
"""How much longer than the server we wait; Google's own guest agent waits 70 s for its 60."""
AT_ONCE_S = 0.5


class GceValue(HttpNoticeSource):
    """Ask for one value of the metadata server, by long poll.

    Args:
        url: The server's base URL.
        hang_s: How long the server waits for a change before it answers, in seconds.
        lead_s: Seconds from the notice to the end, where the server names no time.
    """

    path: str
    query: ClassVar[dict[str, str]] = {}

    def __init__(self, name: str, url: str, hang_s: float, lead_s: float) -> None:
        # Between two long polls nobody listens: a pause costs what it lasts.
        super().__init__(name, url, period_s=AT_ONCE_S, timeout_s=CLIENT_SLACK_S)
        self.hang_s = positive(hang_s, "hang_s")
        self.lead_s = positive(lead_s, "lead_s")

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._etag = ""

    async def ask(self) -> Reply:
        params = dict(self.query)
        timeout_s = self.timeout_s
        if self._etag:
            params |= {
                "wait_for_change": "true",
                "last_etag": self._etag,
                "timeout_sec": str(max(1, round(self.hang_s))),
            }
            timeout_s += self.hang_s
        path = f"/computeMetadata/v1/instance/{self.path}"
        # Whatever goes wrong, the next question must not wait for a change of what we have not got.
        self._etag, asked = "", time.monotonic()
        reply = await self.service.ask(path, headers=HEADERS, params=params, timeout_s=timeout_s)
        if reply.status == 200 and reply.headers.get("metadata-flavor") != "Google":
            raise SourceUnavailable(f"{self.name}: whoever answers is no metadata server")
        waited = "last_etag" not in params or time.monotonic() - asked > AT_ONCE_S
        changed = reply.headers.get("etag") != params.get("last_etag")
        if reply.status == 200 and (waited or changed):
            self._etag = reply.headers.get("etag", "")
        return reply


class GcePreemption(GceValue):
    """Hear that this VM is preempted: Spot, or preemptible.

    Args:
        url: The metadata server; give another to test against a fake.
        hang_s: How long each long poll lasts, in seconds.
        lead_s: Seconds from the notice to the end: 30, best effort, unless the VM was made with a
            longer preemption notice.
    """

    path = "preempted"

    def __init__(self, url: str = URL, hang_s: float = 60.0, lead_s: float = 30.0) -> None:
        super().__init__("gce:preempted", url, hang_s, lead_s)

    def parse(self, reply: Reply) -> Notice | None:
        return parse_preempted(reply, self.name, self.lead_s)


class GceMaintenanceEvent(GceValue):
    """Hear that this VM's host is about to be worked on.

    A VM that is migrated lives on, so that its notice is advisory.

    Args:
        url: The metadata server.
        hang_s: How long each long poll lasts, in seconds.
        lead_s: Seconds from the notice to the end of a VM that cannot be migrated: 60, as for
            migrations; VMs with GPUs are told some 3600 s before.
    """

    path = "maintenance-event"

    def __init__(self, url: str = URL, hang_s: float = 60.0, lead_s: float = 60.0) -> None:
        super().__init__("gce:maintenance-event", url, hang_s, lead_s)

    def parse(self, reply: Reply) -> Notice | None:
        return parse_maintenance_event(reply, self.name, self.lead_s)


class GceUpcomingMaintenance(GceValue):
    """Hear of scheduled maintenance, hours or days before.

    Args:
        url: The metadata server.
        hang_s: How long each long poll lasts, in seconds.
        period_s: Seconds between two questions where the VM's type has no such value.
    """

    path = "upcoming-maintenance"
    query: ClassVar[dict[str, str]] = {"alt": "json"}
    nothing = frozenset({404, 503})

    def __init__(self, url: str = URL, hang_s: float = 60.0, period_s: float = 60.0) -> None:
        super().__init__("gce:upcoming-maintenance", url, hang_s, 3600.0)
        self.period_s = positive(period_s, "period_s")

    def parse(self, reply: Reply) -> Notice | None:
        return parse_upcoming_maintenance(reply, self.name)


def parse_preempted(reply: Reply, name: str, lead_s: float) -> Notice | None:
    """Read `TRUE` or `FALSE`."""
    match reply.text:
        case "TRUE":
            return Notice(
                kind=NoticeKind.PREEMPT,
                deadline=reply.at + lead_s,
                source=name,
                reason="the VM is being preempted",
            )
        case "FALSE":
            return None
        case other:
            raise SourceUnavailable(f"{name}: its answer is {other[:100]!r}, not TRUE or FALSE")


def parse_maintenance_event(reply: Reply, name: str, lead_s: float) -> Notice | None:
    """Read `NONE`, or what is to be done to the VM."""
    event = reply.text
    match event:
        case "NONE":
            return None
        case "MIGRATE_ON_HOST_MAINTENANCE" | "TERMINATE_ON_HOST_MAINTENANCE":
            return Notice(
                kind=NoticeKind.MAINTENANCE,
                deadline=reply.at + lead_s,
                source=name,
                reason=event,
                advisory=event.startswith("MIGRATE"),
            )
        case _:
            raise SourceUnavailable(f"{name}: its answer is {event[:100]!r}, which is no event")


def parse_upcoming_maintenance(reply: Reply, name: str) -> Notice | None:
    """Read a maintenance window, or one of the ways in which there is none."""
    if reply.text in ("", "NONE", "none", '"NONE"'):
        return None
    window = fields_of(read_json(reply, name), name)
    start = window.get("window_start_time") or window.get("windowStartTime")
    status = window.get("maintenance_status") or window.get("maintenanceStatus")
    if start is None or status == "COMPLETE":
        return None
    now = reply.at
    return Notice(
        kind=NoticeKind.MAINTENANCE,
        deadline=now if status == "ONGOING" else deadline_at(start, now, reply.skew_s, 3600.0),
        source=name,
        reason=words(window.get("type"), status, _reasons(window)),
    )


def _reasons(window: dict[str, object]) -> str:
    reasons = window.get("maintenance_reasons") or window.get("maintenanceReasons")
    return ", ".join(map(str, reasons)) if isinstance(reasons, list) else ""


def gce(url: str = URL, hang_s: float = 60.0) -> tuple[GceValue, ...]:
    """Return all sources of Google Compute Engine."""
    return (
        GcePreemption(url, hang_s),
        GceMaintenanceEvent(url, hang_s),
        GceUpcomingMaintenance(url, hang_s),
    )
