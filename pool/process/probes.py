"""Ask a process whether it is ready, or well: probes as values that are sent to its node.

A probe is a question that may be asked often: `check` returns an empty text when it holds, and
otherwise what was seen, short enough for an error message. It never waits for anything to become
true; how often and for how long it is asked is up to others (`pool.process.checks`).

Limits: what blocks runs in a thread, and a thread cannot be ended. So of each probe and start at
most one is under way; asked again meanwhile, the probe waits for that one's answer.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import inspect
import json as jsons
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http.client import responses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from pool.errors import ConfigError, SourceUnavailable
from pool.process import logs

if TYPE_CHECKING:
    from requests import Response

T = TypeVar("T")
Port = int | str
"""A port's number, or the name of one that was leased for the process."""

PORT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""What goes wrong on the side of the one who asks."""
_TIMEOUT_S = 5.0
_BODY_BYTES = 1024 * 1024
_SEEN_CHARACTERS = 200
_LINE_BYTES = 64 * 1024
_LOG_BYTES = 1024 * 1024
_LOG_PIECES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Tell a probe about the process that it is asked about. One for each start.

    Args:
        name: The process's name.
        address: The node's address.
        ports: The leased ports, by name.
        environment: The process's environment.
        cwd: Where it runs; None is where its starter runs.
        log: Where its output goes.
        log_begin: The place in the log where this start's output begins.
        pid: Its process id on the node; None while it is not launched.
    """

    name: str
    address: str
    ports: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    log: Path = Path("log")
    log_begin: logs.Cursor = field(default_factory=logs.Cursor)
    pid: int | None = None
    _notes: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)
    """What each probe remembers of this start, by the probe's `id`."""

    def port(self, port: Port) -> int:
        """Return a port's number."""
        return port if isinstance(port, int) else self.ports[port]


class Probe(ABC):
    """Be a question about a process. Derive from it for one of your own; it has to be picklable."""

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of the leased ports that the question is about."""
        return ()

    @property
    def tells_of_now(self) -> bool:
        """Whether the answer can become another later, so that it can be asked for liveness."""
        return True

    def prepare(self, site: Site) -> None:  # noqa: B027  # most look at nothing
        """Look at what is there before the start. May block; it runs in a thread."""

    @abstractmethod
    async def check(self, site: Site, within_s: float) -> str:
        """Ask once.

        Args:
            site: The process.
            within_s: Seconds after which nobody listens any more and the check is cancelled.

        Returns:
            Nothing if it holds; else what was seen, in a few words.

        Raises:
            TimeoutError: There was no answer in time.
            SourceUnavailable: It could not ask; this says nothing about the process (INV-9).
        """


@dataclass(frozen=True, slots=True)
class TcpProbe(Probe):
    """See `tcp`."""

    port: Port
    host: str | None = None

    def __post_init__(self) -> None:
        _check_port(self.port)
        _check_host(self.host)

    @property
    def ports(self) -> tuple[str, ...]:
        """The port, if it goes by a name."""
        return _named(self.port)

    async def check(self, site: Site, within_s: float) -> str:
        """Connect, and hang up."""
        port, seen = site.port(self.port), ""
        for host in _hosts(self.host, site):
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError as error:
                seen = seen or f"{_join(host, port)}: {_reason(error)}"
                continue
            writer.close()
            return ""
        return seen


@dataclass(frozen=True, slots=True)
class HttpProbe(Probe):
    """See `http`."""

    path: str
    port: Port
    status: int = 200
    json: Any = None
    host: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.path, str) and self.path.startswith("/")):
            raise ConfigError(f"path is {self.path!r}; give one that begins with '/'", "path")
        _check_port(self.port)
        _check_host(self.host)
        if type(self.status) is not int or not 100 <= self.status <= 599:
            raise ConfigError(f"status is {self.status!r}; give a number from 100 to 599", "status")
        try:
            jsons.dumps(self.json)
        except (TypeError, ValueError) as error:
            message = f"json is {self.json!r} ({error}); give what JSON can hold"
            raise ConfigError(message, "json") from None

    @property
    def ports(self) -> tuple[str, ...]:
        """The port, if it goes by a name."""
        return _named(self.port)

    async def check(self, site: Site, within_s: float) -> str:
        """Ask in a thread, with `within_s` seconds for connecting, the head and the body."""
        urls = [
            f"http://{_join(host, site.port(self.port))}{self.path}"
            for host in _hosts(self.host, site)
        ]
        ask = functools.partial(self._ask, urls, min(within_s, _TIMEOUT_S))
        return await _in_thread(site, self, ask)

    def _ask(self, urls: list[str], within_s: float) -> str:
        import requests

        until, seen = time.monotonic() + within_s, ""
        with requests.Session() as session:
            # Neither proxies nor .netrc: the process runs on this very node.
            session.trust_env = False
            for url in urls:
                left_s = max(until - time.monotonic(), 0.001)
                try:
                    with session.get(
                        url, timeout=(left_s, left_s), allow_redirects=False, stream=True
                    ) as response:
                        return self._judge(response, until)
                except requests.Timeout:
                    raise TimeoutError(f"{url}: no answer in {within_s:.3g} s") from None
                except requests.ConnectionError as error:
                    seen = seen or f"{url}: {_reason(error)}"
                except requests.RequestException as error:
                    return f"{url}: {_short(error)}"
        return seen

    def _judge(self, response: Response, until: float) -> str:
        if response.status_code != self.status:
            words = responses.get(response.status_code, "")
            return f"{response.url}: status {response.status_code} {words}".rstrip()
        if self.json is None:
            return ""
        body = b""
        for piece in response.iter_content(4096):
            body += piece
            if len(body) > _BODY_BYTES:
                return f"{response.url}: a body of more than {_BODY_BYTES} bytes"
            if time.monotonic() > until:
                raise TimeoutError(f"{response.url}: the body did not end in time")
        try:
            found = jsons.loads(body)
        except (ValueError, RecursionError):
            return f"{response.url}: no JSON, but {_short(body.decode(errors='replace'))}"
        return "" if _holds(self.json, found) else f"{response.url}: {_short(jsons.dumps(found))}"


@dataclass(frozen=True, slots=True)
class LogProbe(Probe):
    """See `log`."""

    pattern: str

    def __post_init__(self) -> None:
        if not (isinstance(self.pattern, str) and self.pattern):
            raise ConfigError(f"pattern is {self.pattern!r}; give a regular expression", "pattern")
        try:
            re.compile(self.pattern)
        except re.error as error:
            message = f"pattern is {self.pattern!r} ({error}); give a regular expression"
            raise ConfigError(message, "pattern") from None

    @property
    def tells_of_now(self) -> bool:
        """Never: what was once written stays written."""
        return False

    async def check(self, site: Site, within_s: float) -> str:
        """Search what was written since the last time."""
        return await _in_thread(site, self, functools.partial(self._search, site))

    def _search(self, site: Site) -> str:
        search = re.compile(self.pattern).search
        cursor, last = site._notes.get(id(self), (site.log_begin, ""))
        # Not until nothing is left: a process may write faster than this reads.
        for _ in range(_LOG_PIECES):
            text, after = logs.read(site.log, cursor, max_bytes=_LOG_BYTES)
            # The warden notes the arguments at each start; the pattern may be among them.
            lines = [line for line in text.splitlines() if not logs.is_note(line)]
            # The place stays before the line that holds, so that it is found again.
            if any(map(search, lines)):
                return ""
            cursor, last = after, lines[-1] if lines else last
            site._notes[id(self)] = (cursor, last)
            if not text:
                break
        # A prompt, such as "listening on 8000", need not end its line.
        begun, _ = logs.read(site.log, cursor, max_bytes=_LINE_BYTES, rest=True)
        begun = "" if logs.is_note(begun) else begun
        if begun and search(begun):
            return ""
        last = begun or last
        if not last:
            return "it wrote nothing yet"
        return f"no line matches {self.pattern!r}; the last is {_short(last)}"


@dataclass(frozen=True, slots=True)
class FileProbe(Probe):
    """See `file`."""

    path: str

    def __post_init__(self) -> None:
        if not (isinstance(self.path, str) and self.path):
            raise ConfigError(f"path is {self.path!r}; give a file's path", "path")

    def prepare(self, site: Site) -> None:
        """Note which file is there already."""
        site._notes[id(self)] = self._look(site)

    async def check(self, site: Site, within_s: float) -> str:
        """Look for the file."""
        return await _in_thread(site, self, functools.partial(self._compare, site))

    def _compare(self, site: Site) -> str:
        found = self._look(site)
        if found is None:
            return f"no file {self._path(site)}"
        if found == site._notes.get(id(self)):
            return f"{self._path(site)} is from before this start"
        return ""

    def _look(self, site: Site) -> tuple[int, int, int] | None:
        try:
            facts = self._path(site).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def _path(self, site: Site) -> Path:
        return Path(site.cwd or ".") / self.path


@dataclass(frozen=True, slots=True)
class FunctionProbe(Probe):
    """See `function`."""

    ask: Callable[[Site], Any]

    def __post_init__(self) -> None:
        if not callable(self.ask):
            raise ConfigError(f"ask is {self.ask!r}; give a function of one argument", "ask")

    async def check(self, site: Site, within_s: float) -> str:
        """Call the function: an async one here, any other in a thread."""
        try:
            if _is_async(self.ask):
                found = await self.ask(site)
            else:
                found = await _in_thread(site, self, functools.partial(self.ask, site))
                if inspect.isawaitable(found):
                    found = await found
        except SourceUnavailable:
            raise
        except Exception as error:
            return f"{self._name} raised {_short(repr(error))}"
        return "" if found else f"{self._name} returned {_short(repr(found))}"

    @property
    def _name(self) -> str:
        return getattr(self.ask, "__name__", "the function")


def tcp(port: Port, *, host: str | None = None) -> TcpProbe:
    """Ask whether a port takes connections.

    Args:
        port: Its number, or the name of one of the process's leased ports.
        host: Where; None asks this node, at 127.0.0.1 and then at the node's own address.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """
    return TcpProbe(port, host)


def http(
    path: str, *, port: Port, status: int = 200, json: Any = None, host: str | None = None
) -> HttpProbe:
    """Ask over HTTP. Redirects are not followed, and proxies not used.

    Args:
        path: What to GET, from the `/` on, with its query if it has one.
        port: The port's number, or the name of one of the process's leased ports.
        status: The status that is wanted.
        json: What the body has to hold, as JSON: of a dict each item has to be there, and others
            may be; all else has to be equal. None looks at no body.
        host: Where; None asks this node, at 127.0.0.1 and then at the node's own address.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """
    return HttpProbe(path, port, status, json, host)


def log(pattern: str) -> LogProbe:
    """Ask whether a line of the process's output matches. It tells of readiness, not of liveness.

    Args:
        pattern: A regular expression, searched for in each line that this start wrote, the begun
            last one included.

    Raises:
        ConfigError: It is none.
    """
    return LogProbe(pattern)


def file(path: str | os.PathLike[str]) -> FileProbe:
    """Ask whether a file is there. One from before the start counts once it is written again.

    Args:
        path: The file; a relative path is meant from where the process runs.

    Raises:
        ConfigError: It is no path.
    """
    return FileProbe(os.fspath(path) if isinstance(path, os.PathLike) else path)


def function(ask: Callable[[Site], object | Awaitable[object]]) -> FunctionProbe:
    """Ask a function of yours.

    Args:
        ask: Called on the node with a `Site`. A plain function runs in a thread, an async one on
            the loop. What counts is whether it returns something true; what it raises is shown as
            the reason, but `SourceUnavailable` says that it could not ask. It has to be picklable.

    Raises:
        ConfigError: It cannot be called.
    """
    return FunctionProbe(ask)


async def _in_thread(site: Site, probe: Probe, ask: Callable[[], T]) -> T:
    """Run a function that blocks, or wait for the run that is still under way."""
    key = -id(probe)
    under_way = site._notes.get(key)
    if under_way is None:
        # A limiter of its own: functions of users may hold all threads of the common one.
        run = anyio.to_thread.run_sync(
            ask, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
        )
        under_way = site._notes[key] = asyncio.ensure_future(run)
    await asyncio.wait({under_way})
    site._notes.pop(key, None)
    answer: T = under_way.result()
    return answer


def close(site: Site) -> None:
    """Wait for no answer of the site's probes any more."""
    for note in site._notes.values():
        if isinstance(note, asyncio.Future) and not note.cancel() and not note.cancelled():
            # Looked at, so that asyncio does not complain of an error that nobody saw.
            note.exception()


def _is_async(ask: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(
        getattr(ask, "__call__", None)  # noqa: B004  # an object with an async __call__
    )


def _holds(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and _holds(value, found[key]) for key, value in wanted.items()
        )
    # As JSON, since there True is not 1, and a tuple is a list.
    return jsons.dumps(wanted, sort_keys=True) == jsons.dumps(found, sort_keys=True)


def _check_port(port: object) -> None:
    is_number = type(port) is int and 0 < port < 65_536
    is_name = isinstance(port, str) and PORT_NAME.fullmatch(port)
    if not (is_number or is_name):
        message = f"port is {port!r}; give a number from 1 to 65535, or a leased port's name"
        raise ConfigError(message, "port")


def _check_host(host: object) -> None:
    if host is not None and not (isinstance(host, str) and host):
        raise ConfigError(f"host is {host!r}; give an address, or None for the node", "host")


def _named(port: Port) -> tuple[str, ...]:
    return (port,) if isinstance(port, str) else ()


def _hosts(host: str | None, site: Site) -> tuple[str, ...]:
    """Return where to try, in order: a process may listen at either address of its node."""
    return tuple(dict.fromkeys(("127.0.0.1", site.address))) if host is None else (host,)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: BaseException) -> str:
    """Return what the operating system said, however deep it is wrapped.

    Raises:
        SourceUnavailable: It is we who have no sockets left.
    """
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and (inner.errno or 0) > 0:
            said = os.strerror(inner.errno or 0).lower()
            if inner.errno in _OURS:
                raise SourceUnavailable(said) from error
            return said
        inner = inner.__cause__ or inner.__context__
    return _short(error)


def _short(text: object) -> str:
    words = " ".join(str(text).split())
    return words if len(words) <= _SEEN_CHARACTERS else f"{words[:_SEEN_CHARACTERS]}…"
