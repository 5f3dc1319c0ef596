"""What the fakes share: an HTTP server on loopback, in threads, that a test scripts and looks into.

It listens on a port of its own choosing on 127.0.0.1 and nowhere else. A test changes what it says
at any time, from any thread; whoever waits for a change hears of it at once.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Question:
    """Hold one question that came.

    Args:
        method: The HTTP method.
        path: The path, without the query.
        query: The query's parameters.
        headers: The headers, by lower-case name.
        body: The body.
        at: When it came, in seconds of the monotonic clock.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Said:
    """Hold one answer: its status, body and headers."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    """Know every connection, so that none is left when the server goes."""

    daemon_threads = False  # Then it waits for them when it is closed.

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke: who asks may give up at any time."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """Break every connection."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class FakeService:
    """Be a service on loopback. Use it in a `with` block, in which `url` is its address.

    Attributes:
        questions: What it was asked, in order.
        clock_ahead_s: By how many seconds its clock, and so its `Date` header, is ahead.
        delay_s: How many seconds each answer takes longer.
        hangs: Whether questions get no answer at all, as where packets are dropped.
    """

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.clock_ahead_s = 0.0
        self.delay_s = 0.0
        self.hangs = False
        self.changed = threading.Condition()
        self._scripts: list[Said] = []
        self._closed = False
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Whoever keeps a connection and says nothing is not waited for.
            timeout = 30

            def do_GET(self) -> None:
                service._serve(self)

            do_PUT = do_POST = do_GET  # noqa: N815 - the names are the library's

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.02},
            name=f"fake {type(self).__name__}",
            daemon=True,
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        with self.changed:
            self.changed.notify_all()
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Its base URL."""
        assert self._server is not None, "use the fake in a `with` block"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def say_next(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Give the next question this answer, instead of what it would get; repeat for more."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._scripts.append(Said(status, body, headers))

    def now(self) -> float:
        """Return the time by its own clock, in UNIX seconds."""
        return time.time() + self.clock_ahead_s

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait, on the service's side, until a test has changed something."""
        with self.changed:
            return self.changed.wait_for(lambda: self._closed or condition(), timeout_s)

    def tell_changed(self) -> None:
        """Wake whoever waits for a change."""
        with self.changed:
            self.changed.notify_all()

    @abstractmethod
    def answer(self, question: Question) -> Said:
        """Answer a question as the service does."""
        raise NotImplementedError

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        question = Question(
            method=handler.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in handler.headers.items()},
            body=handler.rfile.read(length) if length else b"",
            at=time.monotonic(),
        )
        self.questions.append(question)
        if self.hangs:
            self.wait_until(lambda: not self.hangs, 600)
        if self.delay_s:
            self.wait_until(lambda: False, self.delay_s)
        if self._closed:
            handler.close_connection = True
            return
        said = self._scripts.pop(0) if self._scripts else self.answer(question)
        try:
            handler.send_response_only(said.status)
            handler.send_header("Date", formatdate(self.now(), usegmt=True))
            for name, value in said.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(said.body)))
            handler.end_headers()
            handler.wfile.write(said.body)
        except OSError:
            # Whoever asked has given up.
            handler.close_connection = True
