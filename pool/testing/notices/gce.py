"""A fake of Google Compute Engine's metadata server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pool.testing.notices.server import FakeService, Question, Said

ROOT = "/computeMetadata/v1/"
LONGEST_S = 600.0


class FakeGce(FakeService):
    """Answer as the metadata server does: flavour header, ETags, and `wait_for_change`.

    It refuses with 403 who does not send `Metadata-Flavor: Google`, or sends `X-Forwarded-For`.
    Each change of a value gives it a new ETag. With `wait_for_change` it answers at once when the
    value has another ETag than the last one, or else when it changes, or with the old one when
    `timeout_sec` is over.

    Attributes:
        disabled: Whether it answers everything with 403, as where it was switched off.
        waits: Whether it knows `wait_for_change`; otherwise it answers at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.disabled = False
        self.waits = True
        self._serial = 0
        self._values: dict[str, tuple[str | None, str]] = {}
        self.set("instance/id", "4711")
        self.set("instance/preempted", "FALSE")
        self.set("instance/maintenance-event", "NONE")
        self.set("instance/upcoming-maintenance", "{}")

    def set(self, path: str, value: str | None) -> None:
        """Change a value, and its ETag; None takes it away, so that it is a 404."""
        with self.changed:
            self._serial += 1
            self._values[path] = (value, f"{self._serial:016x}")
            self.changed.notify_all()

    def preempt(self) -> None:
        """Announce that the VM is preempted."""
        self.set("instance/preempted", "TRUE")

    def maintain(self, event: str = "TERMINATE_ON_HOST_MAINTENANCE") -> None:
        """Announce that the VM's host is worked on; `NONE` when that is over."""
        self.set("instance/maintenance-event", event)

    def schedule(self, window: Mapping[str, Any] | None) -> None:
        """Announce a maintenance window, or withdraw it."""
        self.set("instance/upcoming-maintenance", json.dumps(dict(window or {})))

    def answer(self, question: Question) -> Said:
        flavor = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
        if (
            question.headers.get("metadata-flavor") != "Google"
            or "x-forwarded-for" in question.headers
            or self.disabled
        ):
            return Said(403, b"Forbidden", flavor)
        path = question.path.removeprefix(ROOT)
        if path not in self._values or self._values[path][0] is None:
            return Said(404, b"Not Found", flavor)
        query = question.query
        if query.get("wait_for_change") == "true" and self.waits:
            last = query.get("last_etag", "")
            try:
                timeout_s = float(query.get("timeout_sec", LONGEST_S))
            except ValueError:
                return Said(400, b"timeout_sec is no number", flavor)
            first = self._values[path][1]
            if last in ("", first):
                self.wait_until(lambda: self._values[path][1] != first, timeout_s)
        value, etag = self._values[path]
        if value is None:
            return Said(404, b"Not Found", flavor)
        return Said(200, value.encode(), {**flavor, "ETag": etag})
