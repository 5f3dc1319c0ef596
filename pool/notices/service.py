"""A metadata service, asked over HTTP: bounded in every way, and never through a proxy.

`requests` would read proxies, credentials and certificates from the environment, follow redirects,
and read a body of any size; each of these would send a question about this very node elsewhere, or
hold its answer up. Here all of that is off (`trust_env=False`), and whatever is not an answer is a
`SourceUnavailable`: neither "stays" nor "goes" (INV-9).

`requests` is imported with the first question, not before: it costs every worker some 50 ms.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pool.errors import ConfigError, SourceUnavailable
from pool.notices.background import Background
from pool.notices.deadlines import skew_of

if TYPE_CHECKING:
    import requests

CONNECT_S = 1.0
"""A metadata service is on the machine itself, or one hop away."""
SLACK_S = 2.0
"""What a question may take beyond its time-outs, for a body that comes in drops."""
LARGEST = 1024 * 1024
"""Bytes. A node object of Kubernetes with many images has some hundred thousand."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold an answer.

    Args:
        status: The HTTP status.
        headers: The headers, by lower-case name.
        body: The body.
        at: When it came, in UNIX seconds.
        skew_s: By how many seconds the server's clock is ahead of ours.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    at: float = 0.0
    skew_s: float = 0.0

    @property
    def text(self) -> str:
        """The body as text, without space around it."""
        return self.body.decode(errors="replace").strip()


def check_url(url: object, field_name: str = "url") -> str:
    """Return a base URL without its last slash.

    Raises:
        ConfigError: It is no URL of HTTP.
    """
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{field_name} is {url!r}; give a URL such as http://127.0.0.1:8000", field_name
        )
    return str(url).rstrip("/")


class MetadataService:
    """Ask one service, with one session, one question at a time.

    Args:
        name: Who asks, for errors and the thread's name.
        url: The service's base URL.
        verify: The file of certificates to check an https service with.
    """

    def __init__(self, name: str, url: str, verify: str | None = None) -> None:
        self._name = name
        self._url = url
        self._verify = verify
        self._session: requests.Session | None = None
        self._background = Background(name)

    async def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        timeout_s: float = 2.0,
    ) -> Reply:
        """Ask for a path, and return the answer, whatever its status.

        Args:
            path: The path below the base URL.
            method: The HTTP method.
            headers: Headers of the question.
            params: The query.
            json: A body.
            timeout_s: How many seconds the service may be silent; the whole takes at most
                `CONNECT_S + SLACK_S` more.

        Raises:
            SourceUnavailable: There was no answer, or one that is too long.

        Cancelling it leaves the question to a thread, which ends with it.
        """

        def question() -> Reply:
            return self._ask(path, method, headers or {}, params or {}, json, timeout_s)

        return await self._background.run(question, timeout_s + CONNECT_S + SLACK_S)

    def _ask(
        self,
        path: str,
        method: str,
        headers: Mapping[str, str],
        params: Mapping[str, str],
        json: Any,
        timeout_s: float,
    ) -> Reply:
        import requests

        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False
            self._session.headers.clear()
        until = time.monotonic() + timeout_s + CONNECT_S + SLACK_S
        try:
            with self._session.request(
                method,
                self._url + path,
                headers={"Accept-Encoding": "identity", **headers},
                params=dict(params),
                json=json,
                timeout=(CONNECT_S, timeout_s),
                allow_redirects=False,
                stream=True,
                verify=True if self._verify is None else self._verify,
            ) as response:
                body = _read(response, until)
        except (requests.RequestException, OSError, ValueError) as error:
            raise SourceUnavailable(f"{self._name}: {type(error).__name__}: {error}") from error
        now = time.time()
        found = {name.lower(): value for name, value in response.headers.items()}
        skew_s = skew_of(found.get("date"), now)
        return Reply(response.status_code, found, body, now, skew_s)


def _read(response: requests.Response, until: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    # NB: a larger piece would be waited for, however slowly its bytes came.
    for part in response.iter_content(256):
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            raise ValueError(f"its answer is longer than {LARGEST} bytes")
        if time.monotonic() > until:
            raise ValueError("its answer did not end in time")
    return b"".join(parts)
