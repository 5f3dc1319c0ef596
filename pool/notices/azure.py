"""Azure: scheduled events of this virtual machine, from the instance metadata service.

After Azure's "Scheduled Events for Linux VMs". The events of a whole scale set or availability set
come to each of its machines, so that each has to look for its own name. The first question switches
the service on, which takes up to two minutes.

An acknowledgement (`StartRequests`) lets an event begin at once, *for every machine it names*. The
source never sends one by itself: call `AzureScheduledEvents.acknowledge` where you mean it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pool.errors import SourceUnavailable
from pool.notices.deadlines import deadline_at
from pool.notices.http_source import (
    HttpNoticeSource,
    fields_of,
    positive,
    read_json,
    trouble_of,
    words,
)
from pool.notices.service import Reply
from pool.planning.notice import Notice, NoticeKind

URL = "http://169.254.169.254"
HEADERS = {"Metadata": "true"}
EVENTS_PATH = "/metadata/scheduledevents"
EVENTS_VERSION = {"api-version": "2020-07-01"}
NAME_PATH = "/metadata/instance/compute/name"
NAME_VERSION = {"api-version": "2021-02-01", "format": "text"}

LEAST_LEAD_S: Mapping[str, float] = MappingProxyType(
    {"Preempt": 30.0, "Terminate": 300.0, "Redeploy": 600.0, "Reboot": 900.0, "Freeze": 900.0}
)
"""Seconds that Azure promises between an event's announcement and its begin, at least."""
_PREEMPTING = ("Preempt", "Terminate")


class AzureScheduledEvents(HttpNoticeSource):
    """Hear of the events that this machine is named in.

    A machine that is frozen for some seconds lives on, so that its notice is advisory.

    Args:
        url: The instance metadata service; give another to test against a fake.
        vm_name: This machine's name, as in the events' resources; asked for when left out.
        period_s: Seconds between two questions; Azure recommends 1.
        timeout_s: How many seconds the service may be silent, once it is switched on.
        first_timeout_s: How many it may be silent before its first answer.
    """

    def __init__(
        self,
        url: str = URL,
        vm_name: str | None = None,
        period_s: float = 1.0,
        timeout_s: float = 5.0,
        first_timeout_s: float = 130.0,
    ) -> None:
        super().__init__("azure:events", url, period_s, timeout_s)
        self.vm_name = vm_name
        self.first_timeout_s = positive(first_timeout_s, "first_timeout_s")

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._own_name = ""
        self._is_on = False

    async def ask(self) -> Reply:
        if not self._own_name:
            self._own_name = self.vm_name or await ask_vm_name(self)
        reply = await self.service.ask(
            EVENTS_PATH,
            headers=HEADERS,
            params=EVENTS_VERSION,
            timeout_s=self.timeout_s if self._is_on else self.first_timeout_s,
        )
        self._is_on = self._is_on or reply.status == 200
        return reply

    nothing = frozenset()

    def parse(self, reply: Reply) -> Notice | None:
        return parse_events(reply, self.name, self._own_name)

    async def acknowledge(self, event_id: str) -> None:
        """Let an event begin at once, for every machine that it names.

        Call it when the work on all of them has been put down. The id is the first word of the
        notice's `reason`.

        Raises:
            SourceUnavailable: Azure did not take it.
        """
        reply = await self.service.ask(
            EVENTS_PATH,
            method="POST",
            headers=HEADERS,
            params=EVENTS_VERSION,
            json={"StartRequests": [{"EventId": event_id}]},
            timeout_s=self.timeout_s,
        )
        if reply.status != 200:
            raise SourceUnavailable(f"{self.name}: not acknowledged: {trouble_of(reply)}")


async def ask_vm_name(source: HttpNoticeSource) -> str:
    """Ask for this machine's own name.

    Raises:
        SourceUnavailable: There is none.
    """
    reply = await source.service.ask(
        NAME_PATH, headers=HEADERS, params=NAME_VERSION, timeout_s=source.timeout_s
    )
    if reply.status != 200 or not reply.text:
        raise SourceUnavailable(f"{source.name}: no name: {trouble_of(reply)}")
    return reply.text


def parse_events(reply: Reply, name: str, vm_name: str) -> Notice | None:
    """Read the document of events; of those that name this machine the most urgent counts."""
    events = fields_of(read_json(reply, name), name).get("Events")
    if not isinstance(events, list):
        raise SourceUnavailable(f"{name}: its answer has no list of events: {reply.text[:100]}")
    found = [
        _notice_of(event, reply, name)
        for event in events
        if isinstance(event, dict) and _names(event, vm_name)
    ]
    return min(found, key=lambda notice: (notice.advisory, notice.deadline), default=None)


def _names(event: dict[str, Any], vm_name: str) -> bool:
    resources = event.get("Resources")
    return isinstance(resources, list) and any(
        isinstance(resource, str) and resource.casefold() == vm_name.casefold()
        for resource in resources
    )


def _notice_of(event: dict[str, Any], reply: Reply, name: str) -> Notice:
    kind = str(event.get("EventType"))
    now = reply.at
    if event.get("EventStatus") == "Started":
        deadline = now
    else:
        lead_s = LEAST_LEAD_S.get(kind, 0.0)
        deadline = deadline_at(event.get("NotBefore"), now, reply.skew_s, lead_s)
    return Notice(
        kind=NoticeKind.PREEMPT if kind in _PREEMPTING else NoticeKind.MAINTENANCE,
        deadline=deadline,
        source=name,
        reason=words(event.get("EventId"), kind, event.get("Description")),
        advisory=kind == "Freeze",
    )
