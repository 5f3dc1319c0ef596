"""The driver: it runs beside the head's Ray, and its exit code is the job's."""

from __future__ import annotations

import functools
import signal
from collections.abc import Mapping
from pathlib import Path

import anyio

from pool.process import logs, pids
from pool.process.exits import Exit
from pool.process.launch import Running, launch
from pool.process.order import Launch, LogLimit
from pool.slurm import mop
from pool.slurm import place as places
from pool.slurm.job import SlurmJob
from pool.slurm.place import Place
from pool.slurm.telling import Teller
from pool.slurm.work import STOP_MOST_S

LOOK_S = 0.1
LOG_LIMIT = LogLimit(max_bytes=2**40, backups=0)
"""It is the user's own; nothing of it is thrown away."""

_KILLS_BY_DEFAULT = frozenset({signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGALRM})


class Driver:
    """The user's program. Make it with `start`.

    Its output is in its log, and goes to the job's output as it comes. It has no input.
    """

    def __init__(self, running: Running, log: Path, begin: logs.Cursor) -> None:
        self._running = running
        self._log = log
        self._cursor = begin

    @classmethod
    async def start(cls, job: SlurmJob, place: Place, environ: Mapping[str, str]) -> Driver:
        """Start it.

        Raises:
            LaunchFailed: It cannot be; the error says why.
        """
        log = places.log_of_driver(place.folder(job))
        begin = await anyio.to_thread.run_sync(logs.end, log, abandon_on_cancel=True)
        running = await launch(
            Launch(
                argv=tuple(job.command),
                env=environ,
                cwd=job.workdir,
                log=log,
                limit=LOG_LIMIT,
                grace_s=job.stop_grace_s,
                identity=mop.identity(place.mark, "driver"),
            )
        )
        return cls(running, log, begin)

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._running.pid

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self._running.exit

    async def wait(self) -> Exit:
        """Wait for its end. Cancelling ends the wait."""
        return await self._running.wait()

    async def stop(self, grace_s: float) -> None:
        """End it and all that it has started; its end is not waited for where the kernel has it."""
        with anyio.move_on_after(grace_s + STOP_MOST_S, shield=True):
            await self._running.stop(grace_s)

    async def gone(self) -> None:
        """Wait until what it has left behind is gone as well."""
        await self._running.gone()

    def forward(self, number: int) -> bool:
        """Pass a signal on, unless it would kill a driver that has no use for it.

        SIGUSR1 and its like end a process that does not handle them; a warning must not be the end.

        Returns:
            Whether it was passed on.
        """
        if number in _KILLS_BY_DEFAULT and not _catches(self.pid, number):
            return False
        return pids.send(self._running.process, number)

    async def tee(self, teller: Teller) -> None:
        """Copy its output to the job's, until it has ended and all is copied."""
        while True:
            has_ended = self.exit is not None
            read = functools.partial(logs.read, self._log, self._cursor, rest=has_ended)
            try:
                text, self._cursor = await anyio.to_thread.run_sync(read, abandon_on_cancel=True)
            except OSError as error:
                teller.say(f"the driver's log cannot be read: {error}")
                return
            lines = text.splitlines(keepends=True)
            if shown := "".join(line for line in lines if not logs.is_note(line)):
                teller.copy(shown)
            if text:
                continue
            if has_ended:
                return
            await anyio.sleep(LOOK_S)


def exit_code(exit_: Exit) -> int:
    """Return an exit as a shell has it: 128 and the signal's number for one that was killed."""
    if exit_.code is not None:
        return exit_.code
    return 128 + (exit_.signal or 9)


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal, or ignores it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
    mask = 0
    for line in status.splitlines():
        if line.startswith(("SigCgt:", "SigIgn:")):
            mask |= int(line.split()[1], 16)
    return bool(mask >> (number - 1) & 1)
