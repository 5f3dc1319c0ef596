"""What the head makes known: files in the job's directory, and lines of how it goes.

A file system that hangs must hold nothing up, so each write has a limit, and only that of the
head's own file, without which nobody finds it, is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from pool.slurm import files, wire
from pool.slurm import place as places
from pool.slurm.script import CODE_FILE
from pool.slurm.standing import Standing
from pool.slurm.telling import Teller
from pool.slurm.work import tail_of

LOOK_S = 0.5
"""How often it is looked whether the status has changed."""
STATUS_S = 5.0
"""How old a published status may get."""
SAY_S = 10.0
"""How often progress is said although nothing has changed."""
PUBLISH_S = 5.0
"""How long a file may take to be written, where a file system hangs."""

HEAD_FILE = "head.json"
STATUS_FILE = "status.json"
NOTICE_FILE = "notice.json"


class Board:
    """What one head makes known.

    Args:
        folder: Where the job has its files.
        teller: For the user.
    """

    def __init__(self, folder: Path, teller: Teller) -> None:
        self._folder = folder
        self._teller = teller
        self._said = ("", 0.0)

    # --- files ---

    async def announce(self, card: Mapping[str, Any], within_s: float) -> None:
        """Say where the head is.

        Raises:
            TimeoutError: It cannot be written in time.
            OSError: It cannot be written.
        """
        path = self._folder / HEAD_FILE
        with anyio.move_on_after(within_s):
            await anyio.to_thread.run_sync(files.publish, path, card, abandon_on_cancel=True)
            return
        raise TimeoutError(f"{path} could not be written in {within_s:g} s")

    async def withdraw(self, card: Mapping[str, Any], why: str) -> None:
        """Say that it is over, for those who have yet to call."""
        await self.write(files.publish, self._folder / HEAD_FILE, {**card, "over": why})

    async def leave_code(self, code: int) -> None:
        """Leave the job's exit code. Where it cannot be written srun's own has to do."""
        await self.write(files.write, self._folder / CODE_FILE, f"{code}\n")

    async def give_notice(self, notice: Mapping[str, Any]) -> None:
        """Say when the job ends, for the pools in it."""
        path = self._folder / NOTICE_FILE
        try:
            await anyio.to_thread.run_sync(files.publish, path, notice, abandon_on_cancel=True)
        except OSError as error:
            self._teller.say(f"the notice cannot be published: {error}")

    async def keep_status(
        self, status: Callable[[], Mapping[str, Any]], news: Callable[[], object]
    ) -> None:
        """Publish how all is, until cancelled.

        Args:
            status: Returns it.
            news: Returns something that is another whenever it has to be published at once.
        """
        written: object = None
        at = 0.0
        while True:
            state, now = news(), self._teller.elapsed_s
            if state != written or now - at >= STATUS_S:
                written, at = state, now
                await self.publish_status(status())
            await anyio.sleep(LOOK_S)

    async def publish_status(self, status: Mapping[str, Any]) -> None:
        """Publish how all is."""
        await self.write(files.publish, self._folder / STATUS_FILE, status)

    async def write(self, write: Callable[[Path, Any], None], path: Path, what: object) -> bool:
        """Write a file if that can be done in time; returns whether it was."""
        try:
            with anyio.fail_after(PUBLISH_S):
                await anyio.to_thread.run_sync(write, path, what, abandon_on_cancel=True)
        except OSError as error:  # or it took too long
            why = str(error) or f"not in {PUBLISH_S:g} s"
            self._teller.note(f"{path} cannot be written: {why}")
            return False
        return True

    # --- words ---

    def progress(self, why: str, *, is_last: bool) -> None:
        """Say how far the bring-up is, if that is another or was long not said."""
        text, at = self._said
        now = self._teller.elapsed_s
        if why == text and now - at < SAY_S:
            return
        # Many nodes change at once; a line for each helps nobody. The last is always said.
        if now - at >= 1 or is_last or not text:
            self._teller.say(why)
            self._said = (why, now)

    async def show_tail(self, rank: int, service: str, standing: Standing) -> None:
        """Show the last lines of who is to blame: a service on a node, or the node's Ray."""
        count = len(standing.nodes)
        log = places.log_of_ray(self._folder, rank, count)
        if service:
            log = places.log_of_service(self._folder, service, rank, count)
        # What the node has sent along is newer than what a shared file system shows of it.
        tail = standing.tail(rank, service)
        if not tail:
            other = None if service else places.log_of_node(self._folder, rank, count)
            with anyio.move_on_after(PUBLISH_S):
                log, tail = await anyio.to_thread.run_sync(
                    _look, log, other, abandon_on_cancel=True
                )
        title = f"the last lines of {log.name}, {standing.name(rank)}"
        self._teller.show(title, tail[-wire.TAIL_MOST :])


def _look(log: Path, other: Path | None) -> tuple[Path, str]:
    """Return a log, or another if it is not there, and its last lines."""
    found = log if other is None or log.exists() else other
    return found, tail_of(found)
