"""What the sources that ask a metadata service share.

A source is a value that is pickled and sent to nodes: its settings are its public attributes. What
it holds there (session, last answer) is private, made when it is first needed, and never sent.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any

from pool.errors import ConfigError, SourceUnavailable
from pool.notices.service import MetadataService, Reply, check_url
from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice

TRANSIENT = frozenset({429, 500, 502, 503, 504})


class HttpNoticeSource(NodeNoticeSource):
    """Ask one path of a metadata service.

    Args:
        name: Who it is.
        url: The service's base URL.
        period_s: Seconds between two questions.
        timeout_s: How many seconds the service may be silent.

    Raises:
        ConfigError: A value cannot be right.
    """

    verify: str | None = None

    def __init__(self, name: str, url: str, period_s: float, timeout_s: float) -> None:
        self.name = name
        self.url = check_url(url)
        self.period_s = positive(period_s, "period_s")
        self.timeout_s = positive(timeout_s, "timeout_s")
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._service: MetadataService | None = None
        self._heard: tuple[object, Notice | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_afresh()

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.__getstate__().items())
        return f"{type(self).__name__}({settings})"

    @property
    def shared_as(self) -> str | None:  # type: ignore[override]
        """One process on each node asks for all: services throttle who asks too often."""
        return repr(self)

    @property
    def service(self) -> MetadataService:
        """The service, with a session of this source's own."""
        if self._service is None:
            self._service = MetadataService(self.name, self.url, self.verify)
        return self._service

    @abstractmethod
    async def ask(self) -> Reply:
        """Ask once. A status other than 200, and those in `nothing`, is trouble."""

    @abstractmethod
    def parse(self, reply: Reply) -> Notice | None:
        """Read an answer with status 200, whatever its bytes are.

        Raises:
            SourceUnavailable: It is none that the platform gives.
        """

    nothing: frozenset[int] = frozenset({404})
    """The statuses by which the service says that there is no notice."""

    async def check(self, node_id: str, address: str) -> Notice | None:
        reply = await self.ask()
        if reply.status in self.nothing:
            self._heard = None
            return None
        if reply.status != 200:
            raise SourceUnavailable(f"{self.name}: {trouble_of(reply)}")
        # What was said once is said still: a deadline must not move because it was read again.
        key = self.identify(reply)
        if self._heard is None or self._heard[0] != key:
            self._heard = (key, self.parse(reply))
        return self._heard[1]

    def identify(self, reply: Reply) -> object:
        """Return what tells this answer from another one."""
        return reply.body


def positive(value: object, name: str) -> float:
    """Return a number of seconds.

    Raises:
        ConfigError: It is none, or not more than 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ConfigError(f"{name} is {value!r}; give more than 0 seconds", name)
    return float(value)


def trouble_of(reply: Reply) -> str:
    """Say in words what a status means that is no answer."""
    if 300 <= reply.status < 400:
        return f"it redirects ({reply.status}), which no metadata service does"
    if reply.status in TRANSIENT:
        return f"it is busy ({reply.status}): {reply.text[:200]}"
    return f"it refuses ({reply.status}): {reply.text[:200]}"


def read_json(reply: Reply, name: str) -> Any:
    """Read an answer as JSON.

    Raises:
        SourceUnavailable: It is none.
    """
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        raise SourceUnavailable(f"{name}: its answer is no JSON: {error}") from error


def fields_of(value: object, name: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        SourceUnavailable: It is something else.
    """
    if not isinstance(value, dict):
        raise SourceUnavailable(f"{name}: its answer is {str(value)[:100]!r}, and no object")
    return value


def words(*parts: object) -> str:
    """Put a source's own words together, those that are there, and not too many."""
    text = " ".join(str(part) for part in parts if isinstance(part, str | int) and part != "")
    # JSON may hold halves of characters, which nobody could print.
    return text[:300].encode(errors="replace").decode()
