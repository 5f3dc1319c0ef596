"""Serve the page by HTTP: four files that say nothing of the pool, and one stream that says all.

The stream is given for a token alone. It is sent in a header by the page's script, which has it
from the fragment of the address (what stands after `#` is never sent by a browser): so it is in no
log, no cookie and no referrer, and no other site can have a browser send it. Why not cookies: those
of one host are shared by all its ports.

Only `GET` and `HEAD` are answered, and only for a `Host` that the server is known by, so that a
name which was pointed at this machine from outside (DNS rebinding) finds nothing.
"""

from __future__ import annotations

import hmac
import importlib.resources
import ipaddress
import socket
import socketserver
import threading
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from pool.errors import ConfigError
from pool.page.board import Board

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("page", "stream", "tree", "lanes", "lists", "words")
    },
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
READERS_MAX = 32
"""How many browsers may follow at once."""
CONNECTIONS_MAX = 128
REQUEST_TIMEOUT_S = 20.0
"""How long a request may take to arrive, and a reader to take what it is sent."""
HEARTBEAT_S = 10.0
LEAST_SPACING_S = 0.25
"""A page is told of what happened at most four times a second."""


class PageServer(ThreadingHTTPServer):
    """Serve one board, on threads of its own.

    Args:
        board: What is shown.
        host: The address to listen on.
        port: The port; 0 has one drawn.
        token: What the stream is given for.
        names: Further names that the server is known by, as browsers write them in `Host`.

    Raises:
        ConfigError: The address cannot be listened on.
    """

    daemon_threads = True
    # Threads that still write to a browser end with the board, and are not waited for.
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self, board: Board, *, host: str, port: int, token: str, names: Iterable[str] = ()
    ) -> None:
        self.board = board
        self._token = token.encode()
        self._readers = threading.BoundedSemaphore(READERS_MAX)
        self._connections = threading.BoundedSemaphore(CONNECTIONS_MAX)
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"the page cannot listen on {host} port {port}: {error}; give another address or "
                "port, or port 0 to have one drawn",
                "port",
            ) from error
        self.port: int = self.server_address[1]
        self.hosts = frozenset(_hosts(host, self.port, names))

    def server_bind(self) -> None:
        """Bind, without asking the network for this machine's name, as the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def may_read(self, authorization: str) -> bool:
        """Whether a request's `Authorization` carries the token; takes equally long if not."""
        scheme, _, given = authorization.partition(" ")
        is_token = hmac.compare_digest(given.strip().encode(), self._token)
        return is_token and scheme.lower() == "bearer"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection on a thread of its own, unless there are too many."""
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away."""

    def take_reader(self) -> bool:
        """Whether one more may follow; then `leave_reader` has to be called."""
        return self._readers.acquire(blocking=False)

    def leave_reader(self) -> None:
        """Make room for another reader."""
        self._readers.release()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "pool"
    sys_version = ""
    timeout = REQUEST_TIMEOUT_S
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    _read: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    @property
    def _page(self) -> PageServer:
        assert isinstance(self.server, PageServer)
        return self.server

    def _answer(self, *, has_body: bool) -> None:
        if self.headers.get("Host", "").lower() not in self._page.hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this page is not known by that name")
        elif self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self._refuse(HTTPStatus.BAD_REQUEST, "a request to read has no body")
        elif (path := self.path.partition("?")[0]) in FILES:
            name, kind = FILES[path]
            self._send(HTTPStatus.OK, kind, self._file(name), has_body=has_body)
        elif path != "/stream":
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        elif not self._page.may_read(self.headers.get("Authorization", "")):
            self._refuse(
                HTTPStatus.UNAUTHORIZED,
                "give the token of this page",
                ("WWW-Authenticate", "Bearer"),
            )
        elif not has_body:
            self._send(HTTPStatus.OK, "text/event-stream", b"", has_body=False)
        elif not self._page.take_reader():
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many read this page already")
        else:
            try:
                self._stream()
            finally:
                self._page.leave_reader()

    def _stream(self) -> None:
        """Tell all there is, then what changes, until the reader or the board is gone."""
        board, version, self.close_connection = self._page.board, 0, True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        pause = threading.Event()
        while not board.has_ended():
            version, told = board.wait(version, HEARTBEAT_S)
            # A comment, so that a connection which is gone is noticed.
            text = ": still here\n\n" if told is None else f"event: told\ndata: {told}\n\n"
            if board.has_ended():
                text = "event: closed\ndata: {}\n\n"
            try:
                self.wfile.write(text.encode())
                self.wfile.flush()
            except OSError:
                return
            pause.wait(LEAST_SPACING_S)

    @classmethod
    def _file(cls, name: str) -> bytes:
        if name not in cls._read:
            folder = importlib.resources.files("pool.page") / "static"
            cls._read[name] = (folder / name).read_bytes()
        return cls._read[name]

    def _send(
        self, status: HTTPStatus, kind: str, body: bytes, *headers: tuple[str, str], has_body: bool
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if kind != "text/event-stream":
            self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str, *headers: tuple[str, str]) -> None:
        self.close_connection = True
        has_body = self.command != "HEAD"
        text, kind = f"{why}\n".encode(), "text/plain; charset=utf-8"
        self._send(status, kind, text, ("Connection", "close"), *headers, has_body=has_body)

    def end_headers(self) -> None:
        """Send the same strict headers with every answer, refusals of the base class included."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing: the page belongs to a program that has its own log."""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hosts(host: str, port: int, names: Iterable[str]) -> set[str]:
    """Return what browsers may write in `Host`."""
    known = {host, *names}
    if is_loopback(host):
        known |= {"localhost", "127.0.0.1", "::1"}
    known = {f"[{name}]" if ":" in name else name for name in known}
    return {f"{name.lower()}:{port}" for name in known} | (
        {name.lower() for name in known} if port == 80 else set()
    )
