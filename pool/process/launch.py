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
import functools
import os
import socket

import anyio

from pool.errors import LaunchFailed, PoolError
from pool.process import marker, pids
from pool.process.exits import Exit, Rung, StopReport
from pool.process.marker import Marker
from pool.process.order import Launch, check_grace, write_order
from pool.process.pids import ProcessId
from pool.process.spawn import aside, start_warden
from pool.process.why_not import explain

LAST_READS = 4
"""As often as the line is read when the warden has ended; it says less than one read holds."""

ABANDON_S = 10.0
"""How long a launch that is cancelled waits for the end of what it has begun."""


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
        check_grace(grace_s)
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
        order = write_order(self._spec, self._owner)
        self._line, theirs = socket.socketpair()
        start = functools.partial(start_warden, self._spec, order, self._line, theirs)
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
            look = functools.partial(explain, self._spec, *self._failed_step)
            self._failure = await aside(self._loop, look)
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
