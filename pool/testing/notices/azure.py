"""A fake of Azure's instance metadata service, with scheduled events."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

from pool.testing.notices.server import FakeService, Question, Said


class FakeAzure(FakeService):
    """Answer as Azure does: the metadata header, versions, incarnations, and acknowledgements.

    Args:
        vm_name: The name of the machine that asks.
        first_delay_s: How many seconds the first question for events takes, which switches the
            service on; on Azure up to 120.

    Attributes:
        acknowledged: The events that somebody acknowledged.
    """

    def __init__(self, vm_name: str = "vm-1", first_delay_s: float = 0.0) -> None:
        super().__init__()
        self.vm_name = vm_name
        self.first_delay_s = first_delay_s
        self.acknowledged: list[str] = []
        self._is_on = False
        self._incarnation = 1
        self._events: dict[str, dict[str, Any]] = {}

    def announce(
        self,
        kind: str = "Preempt",
        in_s: float | None = 30.0,
        resources: Sequence[str] | None = None,
    ) -> str:
        """Announce an event, and return its id.

        Args:
            kind: `Freeze`, `Reboot`, `Redeploy`, `Preempt` or `Terminate`.
            in_s: Seconds until it may begin; None for one that has begun, as after a failure.
            resources: The machines it names; the one that asks by default.
        """
        event_id = secrets.token_hex(16).upper()
        self._events[event_id] = {
            "EventId": event_id,
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": [self.vm_name] if resources is None else list(resources),
            "EventStatus": "Started" if in_s is None else "Scheduled",
            "NotBefore": "" if in_s is None else formatdate(self.now() + in_s, usegmt=True),
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }
        self._incarnation += 1
        return event_id

    def begin(self, event_id: str) -> None:
        """Let an event begin."""
        self._events[event_id] |= {"EventStatus": "Started", "NotBefore": ""}
        self._incarnation += 1

    def end(self, event_id: str) -> None:
        """Let an event be over, or cancel it: it is not in the list any more."""
        del self._events[event_id]
        self._incarnation += 1

    def answer(self, question: Question) -> Said:
        if question.headers.get("metadata", "").lower() != "true":
            return _bad("Required metadata header not specified")
        if "x-forwarded-for" in question.headers:
            return _bad("Requests through proxies are refused")
        if "api-version" not in question.query:
            return _bad("Bad request. api-version was not specified in the request")
        if question.path == "/metadata/instance/compute/name":
            return Said(200, self.vm_name.encode(), {"Content-Type": "text/plain"})
        if question.path != "/metadata/scheduledevents":
            return Said(404, b'{"error": "Not found"}')
        if question.method == "POST":
            return self._acknowledge(question)
        if not self._is_on:
            self.wait_until(lambda: False, self.first_delay_s)
            self._is_on = True
        events = list(self._events.values())
        document = {"DocumentIncarnation": self._incarnation, "Events": events}
        return Said(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _acknowledge(self, question: Question) -> Said:
        try:
            found = [each["EventId"] for each in json.loads(question.body)["StartRequests"]]
        except (ValueError, KeyError, TypeError):
            return _bad("the body is no list of StartRequests")
        if not all(event_id in self._events for event_id in found):
            return _bad("there is no such event")
        for event_id in found:
            self.acknowledged.append(event_id)
            self.begin(event_id)
        return Said(200)


def _bad(why: str) -> Said:
    return Said(400, json.dumps({"error": why}).encode(), {"Content-Type": "application/json"})
