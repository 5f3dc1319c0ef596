"""The owner's side of a managed process: launch it, hear how it ends, stop its whole tree.

The process has a warden of its own (`pool.process.warden`), which is started here and then spoken
to over a socket. Nothing here blocks the event loop, and no thread is left: a short one starts the
warden, as starting a program can take long on a network file system. `asyncio`'s own subprocesses
will not do: they need a watcher of children, and Ray kills the children of its workers.

Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, cast

import anyio

from pool.errors import ConfigError, LaunchFailed, PoolError
from pool.process import marker, pids, warden
from pool.process.marker import Marker
from pool.process.pids import ProcessId

T = TypeVar("T")

LAST_READS = 4
"""As often as the line is read when the warden has ended; it says less than one read holds."""

ABANDON_S = 10.0
"""How long a launch that is cancelled waits for the end of what it has begun."""

WARDEN_ENV = ("LD_LIBRARY_PATH", "PATH", marker.VARIABLE)
"""What a warden gets of this process's environment: the mark too, if that is in a tree itself."""

_IDENTITY = re.compile(r'[^\s|"\\\x00-\x20\x7f-\uffff]+')


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimit:
    """How large a process's log may get.

    Args:
        max_bytes: A file is rotated before it gets larger.
        backups: How many older files are kept: `log.1` is the youngest of them.
    """

    max_bytes: int = 64 * 2**20
    backups: int = 3

    def __post_init__(self) -> None:
        if self.max_bytes < 1024:
            raise ConfigError(f"max_bytes is {self.max_bytes}; give 1024 or more", "max_bytes")
        if self.backups < 0:
            raise ConfigError(f"backups is {self.backups}; give 0 or more", "backups")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is to be run, with everything filled in.

    Args:
        argv: The program, found on the `PATH` of `env` if it has no slash, and its arguments.
        env: Its environment, complete. `POOL_PROCESS` is added.
        cwd: Its working directory; None for this process's.
        log: Where its output goes, appended. The folder is made. Beside it lies `<log>.exit`; see
            `read_exit`. One process at a time may have it.
        limit: How large the log may get.
        grace_s: Seconds that its tree has to end when this process dies.
        identity: Whose process it is and which, for `ps` and for the marker; no blanks, no ``|``.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None
    log: Path
    limit: LogLimit = LogLimit()
    grace_s: float = 10.0
    identity: str

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0]:
            raise ConfigError("argv names no program", "argv")
        for field, texts in (
            ("argv", self.argv),
            ("env", [*self.env, *self.env.values()]),
            ("cwd", [self.cwd or "/"]),
            ("log", [os.fspath(self.log)]),
        ):
            if not all(_can_be_given(text) for text in texts):
                raise ConfigError(
                    f"{field} holds a NUL, or what cannot be encoded: no process can be given that",
                    field,
                )
        if any(not name or "=" in name for name in self.env):
            raise ConfigError("a name in env is empty or holds '='", "env")
        if not _IDENTITY.fullmatch(self.identity):
            raise ConfigError(
                f"identity is {self.identity!r}; give printable ASCII without blanks, quotes, "
                "backslashes and '|'",
                "identity",
            )
        _check_grace(self.grace_s)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a main process ended.

    Attributes:
        code: What it returned; None if a signal ended it.
        signal: The number of the signal that did.
    """

    code: int | None = None
    signal: int | None = None

    @property
    def is_clean(self) -> bool:
        """Whether it returned 0."""
        return self.code == 0

    @property
    def lost(self) -> bool:
        """Whether nobody knows how it ended, as its warden was killed and so it was."""
        return self.code is None and self.signal is None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {_name_of(self.signal)} ({self.signal})"
        if self.code is not None:
            return f"exit code {self.code}"
        return "killed with its warden, unseen"


Rung = Literal["already", "asked", "terminated", "killed"]
"""What it took to stop something: nothing, a question, SIGTERM, or SIGKILL.

A process launched here is never "asked": that is for whoever can ask it in its own words before.
"""


@dataclass(frozen=True, slots=True)
class StopReport:
    """How a stop went.

    Attributes:
        exit: How the main process ended.
        rung: What it took: "already" if the main process had ended before, "terminated" if all of
            the tree ended when it was asked to with SIGTERM, "killed" if some of it did not.
        killed: How many processes of the tree were killed with SIGKILL.
    """

    exit: Exit
    rung: Rung
    killed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """What the file `<log>.exit` says of the last process with this log that has ended.

    Attributes:
        identity: Whose process it was and which.
        process: The main process.
        exit: How it ended.
        ended_at: When, in seconds since 1970, by the node's clock.
        stopped_by: "asked" if its owner had it stopped, "owner" if its owner was gone, "" if it
            ended by itself.
        is_gone: Whether the rest of the tree was gone as well when this was written.
        killed: How many processes of the tree had been killed with SIGKILL by then.
        dropped_bytes: How much of its output could not be written to the log.
    """

    identity: str
    process: ProcessId
    exit: Exit
    ended_at: float
    stopped_by: str
    is_gone: bool
    killed: int
    dropped_bytes: int


def read_exit(log: Path) -> ExitRecord | None:
    """Return how the last process with this log ended; None if it has not, or that is not known."""
    try:
        said = json.loads(Path(f"{log}.exit").read_text(encoding="ascii"))
        return ExitRecord(
            identity=said["identity"],
            process=ProcessId(said["pid"], said["created"]),
            exit=Exit(said["code"], said["signal"]),
            ended_at=said["ended_at"],
            stopped_by=said["stopped_by"] or "",
            is_gone=said["is_gone"],
            killed=said["killed"],
            dropped_bytes=said["dropped_bytes"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def launch(spec: Launch) -> Running:
    """Start a process, and return when its program has replaced the warden's child.

    Cancelling leaves nothing: what has begun is killed, and that is waited for, some seconds at
    most.

    Args:
        spec: What to run.

    Returns:
        The process, which runs, or has ended already.

    Raises:
        LaunchFailed: It could not be started. The error says why, and what to do.
    """
    running = Running(spec)
    try:
        await running._begin()
    except BaseException:
        with anyio.CancelScope(shield=True), anyio.move_on_after(ABANDON_S):
            await running._abandon()
        running.close()
        raise
    return running


class Running:
    """A process that was launched; made by `launch`.

    It belongs to the event loop that launched it: call and await everything here in that. When
    this process dies, or when `close` is called, the warden stops the tree with the launch's
    `grace_s`. Call `stop` or `close` before the loop ends.
    """

    def __init__(self, spec: Launch) -> None:
        self._spec = spec
        self._loop = asyncio.get_running_loop()
        self._owner = pids.myself()
        self._line: socket.socket | None = None
        self._starter: asyncio.Future[LaunchFailed | None] | None = None
        self._watch: int | None = None
        self._warden: ProcessId | None = None
        self._process: ProcessId | None = None
        self._unread = b""
        self._failure: LaunchFailed | None = None
        self._failed_step: tuple[str, int] | None = None
        self._exit: Exit | None = None
        self._killed = 0
        self._is_closed = False
        self._is_over = False  # the warden has said that the tree is gone; it may not be, quite
        self._has_begun = asyncio.Event()
        self._has_ended = asyncio.Event()
        self._is_gone = asyncio.Event()
        self._is_silent = asyncio.Event()  # the warden has closed its end

    def __repr__(self) -> str:
        return f"<Running {self._spec.identity} {self._process}: {self._exit or 'runs'}>"

    @property
    def process(self) -> ProcessId:
        """The main process."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """The pid of the main process."""
        return self.process.pid

    @property
    def created(self) -> int:
        """When the main process was created, in clock ticks since the machine was booted."""
        return self.process.created

    @property
    def warden(self) -> ProcessId:
        """The warden."""
        assert self._warden is not None
        return self._warden

    @property
    def marker(self) -> Marker:
        """The mark of everything in the tree."""
        return Marker(self._spec.identity, marker.here(), self._owner, self.warden)

    @property
    def exit(self) -> Exit | None:
        """How the main process ended; None while it runs."""
        return self._exit

    @property
    def is_gone(self) -> bool:
        """Whether the whole tree has ended, and its warden."""
        return self._is_gone.is_set()

    @property
    def killed(self) -> int:
        """How many of the tree were killed with SIGKILL; known when the tree is gone."""
        return self._killed

    async def wait(self) -> Exit:
        """Wait until the main process has ended, and its output up to then is in the log.

        What it has left behind is being stopped then; see `gone`. Cancelling does nothing but end
        the wait.

        Raises:
            PoolError: `close` was called.
        """
        await self._has_ended.wait()
        self._check_open()
        assert self._exit is not None
        return self._exit

    async def gone(self) -> None:
        """Wait until the whole tree has ended, and its warden. Cancelling just ends the wait.

        Raises:
            PoolError: `close` was called.
        """
        await self._is_gone.wait()
        self._check_open()

    def signal(self, number: int) -> bool:
        """Send a signal to the main process, and to nobody else.

        Returns:
            False if it has ended.

        Raises:
            PermissionError: It runs as another user.
        """
        return pids.send(self.process, number)

    async def stop(self, grace_s: float | None = None) -> StopReport:
        """Stop the whole tree: SIGTERM for everybody in it, and after the grace SIGKILL.

        Idempotent; of several calls the one whose grace is over first counts. Cancelling ends the
        wait, and the stop goes on. It returns when the tree is gone, however long the kernel takes
        to end those that were killed.

        Args:
            grace_s: Seconds to end in; 0 kills at once. None for the launch's own.

        Raises:
            PoolError: `close` was called.
        """
        grace_s = self._spec.grace_s if grace_s is None else grace_s
        _check_grace(grace_s)
        self._check_open()
        had_ended = self._exit is not None
        self._say(f"stop {grace_s:.6f}")
        await self.gone()
        assert self._exit is not None
        rung: Rung = "already" if had_ended else "killed" if self._killed else "terminated"
        return StopReport(self._exit, rung, self._killed)

    def close(self) -> None:
        """Let go of the process: the warden stops the tree, with the launch's `grace_s`.

        Nobody here hears of it any more: who waits gets an error. For whoever cannot wait, as its
        event loop is about to end; `stop` is the better way. Idempotent.
        """
        if not self._is_gone.is_set():
            self._is_closed = True
        self._hang_up()
        for event in (self._has_begun, self._has_ended, self._is_gone):
            event.set()

    def _check_open(self) -> None:
        if self._is_closed:
            raise PoolError(f"{self._spec.identity} was let go of; nobody hears how it ends")

    # starting

    async def _begin(self) -> None:
        order = _order(self._spec, self._owner)
        self._line, theirs = socket.socketpair()
        start = functools.partial(_start_warden, self._spec, order, self._line, theirs)
        try:
            self._starter = aside(self._loop, start)
        except RuntimeError as error:  # there can be no more threads
            theirs.close()
            raise LaunchFailed(
                self._spec.argv[0], f"its warden cannot be started: {error}"
            ) from None
        self._failure = await asyncio.shield(self._starter)
        if self._failure is None:
            self._listen()
            await self._has_begun.wait()
        if self._failed_step is not None:
            await self._is_silent.wait()
            explain = functools.partial(_explain, self._spec, *self._failed_step)
            self._failure = await aside(self._loop, explain)
        if self._failure is not None:
            raise self._failure

    async def _abandon(self) -> None:
        """Take back what was begun, and wait until nothing of it is left."""
        if self._starter is not None and await asyncio.shield(self._starter) is None:
            if self._watch is None and not self._is_silent.is_set() and self._line is not None:
                self._listen()
            self._say("stop 0")
            if self._line is not None:
                with contextlib.suppress(OSError):  # it has ended already
                    self._line.shutdown(socket.SHUT_WR)
            await self._is_silent.wait()
            if self._process is not None:
                await self._is_gone.wait()

    def _listen(self) -> None:
        assert self._line is not None
        self._line.setblocking(False)
        self._loop.add_reader(self._line, self._read)

    # hearing

    def _say(self, text: str) -> None:
        if self._line is not None:
            with contextlib.suppress(OSError):  # the warden is gone: its end of the line tells
                self._line.send(text.encode() + b"\n", socket.MSG_NOSIGNAL)

    def _read(self) -> None:
        if self._line is None:
            return
        try:
            data = self._line.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._hear(line.decode().split())
        if not data:
            self._close_line()
            if self._watch is None:
                self._fall_silent()

    def _hear(self, words: list[str]) -> None:
        match words:
            case ["warden", pid, created]:
                self._warden = ProcessId(int(pid), int(created))
                self._watch_warden(self._warden)
            case ["failed", step, number]:
                self._failed_step = step, int(number)
                self._has_begun.set()
            case ["started", pid, created]:
                self._process = ProcessId(int(pid), int(created))
                self._has_begun.set()
            case ["exited", code, number]:
                self._exit = Exit(*(None if word == "-" else int(word) for word in (code, number)))
                self._has_ended.set()
            case ["gone", killed]:
                self._killed = int(killed)
                self._is_over = True
            case _:  # pragma: no cover
                raise AssertionError(f"the warden says {words}")

    def _watch_warden(self, process: ProcessId) -> None:
        # The end of the line alone will not do: a child that this process forks while it starts
        # the warden holds a copy of the warden's end, and keeps it open.
        try:
            self._watch = pids.hold(process)
        except ProcessLookupError:
            return  # then the end of the line tells
        if self._watch is not None:
            self._loop.add_reader(self._watch, self._warden_ended)

    def _warden_ended(self) -> None:
        # What it has said last is here already. An end may never come, if a fork has its copy.
        for _ in range(LAST_READS):
            self._read()
        self._fall_silent()

    def _fall_silent(self) -> None:
        if self._is_silent.is_set():
            return
        self._hang_up()
        self._is_silent.set()
        if self._process is None:
            if self._failed_step is None:
                self._failure = LaunchFailed(
                    self._spec.argv[0], "its warden ended before it had started it; try again"
                )
            self._has_begun.set()
        elif self._is_over:
            self._is_gone.set()
        else:
            mop_up = functools.partial(marker.remove, self.marker, self._process)
            aside(self._loop, mop_up).add_done_callback(self._mopped_up)

    def _mopped_up(self, removal: asyncio.Future[int]) -> None:
        self._killed = 0 if removal.cancelled() else removal.result()
        self._exit = self._exit or Exit()
        self._has_ended.set()
        self._is_gone.set()

    def _hang_up(self) -> None:
        if self._watch is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._watch)
            os.close(self._watch)
            self._watch = None
        self._close_line()

    def _close_line(self) -> None:
        if self._line is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._line)
            self._line.close()
            self._line = None


def _order(spec: Launch, owner: ProcessId) -> bytes:
    """Return what the warden reads; see `pool.process.warden.Order`."""
    try:
        folder, log = os.path.abspath(spec.cwd or ""), spec.log.absolute()
    except FileNotFoundError as error:
        raise LaunchFailed(
            spec.argv[0],
            "the working directory of this process is gone; give cwd and log as full paths",
            error.errno,
        ) from None
    argv = [os.fsencode(argument) for argument in spec.argv]
    env = {os.fsencode(name): os.fsencode(value) for name, value in spec.env.items()}
    fields = [
        marker.start(spec.identity, marker.here(), owner).encode(),
        str(owner.pid).encode(),
        str(owner.created).encode(),
        repr(float(spec.grace_s)).encode(),
        os.fsencode(log),
        str(spec.limit.max_bytes).encode(),
        str(spec.limit.backups).encode(),
        os.fsencode(folder),
        str(len(argv)).encode(),
        *argv,
        *(name + b"=" + value for name, value in env.items()),
    ]
    body = b"".join(field + b"\0" for field in fields)
    return len(body).to_bytes(8, "big") + body


def _start_warden(
    spec: Launch, order: bytes, ours: socket.socket, theirs: socket.socket
) -> LaunchFailed | None:
    """Start a warden and hand the order over. Blocks; in a thread of its own."""
    try:
        spec.log.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        theirs.close()
        # "File exists" is said where a file is in the place of the folder.
        return _explain(spec, "log", errno.ENOTDIR if error.errno == errno.EEXIST else error.errno)
    try:
        spawn(spec.identity, order, ours, theirs)
    except OSError as error:
        return LaunchFailed(spec.argv[0], error.strerror or str(error), error.errno)
    return None


def spawn(identity: str, order: bytes, ours: socket.socket, theirs: socket.socket) -> None:
    """Start a warden, or a guard, and hand the order over. Blocks; in a thread of its own.

    Args:
        identity: What it is called in `ps`.
        order: See `pool.process.warden.Order`.
        ours: This end of its line.
        theirs: The other end, which is closed here.

    Raises:
        OSError: It could not be started.
    """
    # The warden inherits what this thread blocks, so no signal to a group hits it as it starts.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    argv = [sys.executable or "python3", "-I", "-S", "-E", _script()]
    try:
        with theirs:
            process = subprocess.Popen(
                [*argv, str(theirs.fileno()), identity],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env={name: os.environ[name] for name in WARDEN_ENV if name in os.environ},
                start_new_session=True,
            )
    except OSError as error:
        raise OSError(error.errno, f"its warden cannot be started: {error}") from error
    with process:
        with contextlib.suppress(OSError):  # what it says on stderr tells why
            ours.sendall(order, socket.MSG_NOSIGNAL)
        # The first process ends as soon as it has forked, and the second closes the pipe then.
        said = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode != 0:
        raise OSError(f"its warden, {' '.join(argv)}, ended ({process.returncode}): {said}")


@functools.cache
def _script() -> str:
    """Return the warden's file: compiled if there is such, as that starts some ms faster."""
    source = os.path.abspath(warden.__file__)
    try:
        compiled = importlib.util.cache_from_source(source)
        with open(compiled, "rb") as file:
            header = file.read(16)
        seen = os.stat(source)
    except (OSError, NotImplementedError):
        return source
    # Run as a script, it is not compared with its source; so that is done here, as by an import.
    stamp = struct.pack("<4sIII", importlib.util.MAGIC_NUMBER, 0, int(seen.st_mtime), seen.st_size)
    return compiled if header == stamp else source


def _explain(spec: Launch, step: str, number: int | None) -> LaunchFailed:
    reason = os.strerror(number) if number else ""
    return LaunchFailed(spec.argv[0], _detail(spec, step, reason), number or None)


def _detail(spec: Launch, step: str, reason: str) -> str:
    program = spec.argv[0]
    folder = os.path.abspath(spec.cwd or "")
    match step:
        case "proc" | "prctl":
            return (
                "a managed process needs Linux with /proc mounted, and a Python that has ctypes "
                f"({sys.executable} -c 'import ctypes' tells)"
            )
        case "owner":
            return "this process was gone before its warden had looked"
        case "log":
            return f"its log {spec.log.absolute()} cannot be written: {reason}; give another"
        case "cwd":
            return (
                f"its working directory {folder} cannot be entered on this node: {reason}; make it "
                "there, or give another cwd"
            )
        case "fork":
            return (
                f"no process could be made: {reason}; `ulimit -u` and the cgroup's pids.max say "
                "how many there may be"
            )
        case "exec":
            return _why_not_run(spec, program, folder, reason)
        case _:
            return f"{reason or 'no reason was given'} (while it was being set up)"


def _why_not_run(spec: Launch, program: str, folder: str, reason: str) -> str:
    if "/" in program:
        path = os.path.join(folder, program)
    else:
        search = spec.env.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        found = shutil.which(program, os.F_OK, search)
        if found is None:
            return (
                f"no such program on the PATH that it was given, {search!r}; install it on this "
                "node, give its full path, or add its folder to PATH in env"
            )
        path = found
    if not os.path.exists(path):
        return f"there is no {path} on this node; install it there, or give the path that it has"
    if os.path.isdir(path):
        return f"{path} is a folder; name a program"
    if not os.access(path, os.X_OK):
        return f"{path} may not be run ({reason}); chmod +x it, or start it by its interpreter"
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        first = b""
    if first.startswith(b"#!"):
        wanted = first[2:].decode(errors="replace").strip()
        return (
            f"{path} asks in its first line for {wanted!r}, and that fails: {reason}; install "
            "that, or start the script by an interpreter that is there"
        )
    return f"{path} cannot be run: {reason}; is it a program, and made for this kind of machine?"


def aside(loop: asyncio.AbstractEventLoop, function: Callable[[], T]) -> asyncio.Future[T]:
    """Run something that blocks in a thread that ends with it."""
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def body() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=body, name="pool-process", daemon=True).start()
    return future


def _can_be_given(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _check_grace(grace_s: float) -> None:
    if not 0 <= grace_s < math.inf:
        raise ConfigError(f"grace_s is {grace_s}; give 0 or more seconds, and an end", "grace_s")


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal"
