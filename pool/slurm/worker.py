"""The node program of every node but the head: it calls, does as it is told, and leaves."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.abc

from pool.errors import ConfigError, PoolError
from pool.slurm import files
from pool.slurm.head import HEAD_FILE, NODE_FOLDER
from pool.slurm.job import SlurmJob
from pool.slurm.judge import Stage
from pool.slurm.place import Place
from pool.slurm.rollcall import Line, call
from pool.slurm.setting import Setting
from pool.slurm.telling import Teller
from pool.slurm.work import NodeWork

OUTLIVE_S = 5.0
"""How much longer than the driver may take a worker waits, once all were asked to end."""


class HeadGone(PoolError):
    """Say that there is no head to join; nobody is to be told."""


async def find_head(job: SlurmJob, place: Place, teller: Teller) -> Mapping[str, Any]:
    """Wait for the head's file, of this run and no other, and show that this node was here.

    Raises:
        HeadGone: It is not there in time, or the head has failed.
        OSError: This node cannot write into the job's directory.
    """
    path = place.folder(job) / HEAD_FILE
    strange = ""

    def look() -> dict[str, Any] | None:
        nonlocal strange
        found = files.read(path)
        if found is None:
            return None
        if found.get("cluster") != place.cluster:
            strange = f"; what is there is of job {found.get('job')}, run {found.get('attempt')}"
            return None
        return found

    limit_s = job.deadlines.call_s
    with anyio.move_on_after(limit_s):
        found = await files.wait_for(look)
        if "failed" in found:
            raise HeadGone(f"the head has failed: {found['failed']}")
        own = path.parent / NODE_FOLDER / f"{place.role.rank}.json"
        card = {"cluster": place.cluster, "rank": place.role.rank, "host": place.role.host}
        await anyio.to_thread.run_sync(files.publish, own, card)
        teller.note(f"the head is {found['host']} at {found['address']}:{found['call']}")
        return found
    raise HeadGone(f"after {limit_s:g} s there is no {path} of this run{strange}")


class Worker:
    """Work on one node until the head, or its silence, says that it is over.

    Args:
        setting: The node.
        teller: For the log.
        card: The head's file.
    """

    def __init__(self, setting: Setting, teller: Teller, card: Mapping[str, Any]) -> None:
        self._setting = setting
        self._job = setting.job
        self._teller = teller
        self._card = card
        self._line: Line | None = None
        self._was_asked = False
        self._is_told = False
        self._work = NodeWork(
            job=setting.job,
            place=setting.place,
            home=setting.home,
            block=setting.block,
            address=setting.address,
            environ=setting.environ,
            tell=self._tell,
            teller=teller,
        )

    async def run(self) -> int:
        """Work, and return the exit code: 0 if the head has told this node to leave."""
        place = self._setting.place
        is_good = False
        try:
            line = self._line = await self._call()
            line.say(
                "hello",
                key=place.key,
                rank=place.role.rank,
                host=place.role.host,
                address=self._setting.address,
            )
            async with anyio.create_task_group() as group:
                self._group = group
                group.start_soon(line.keep)
                is_good = await self._listen(line)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave(is_good)
        return 0 if self._is_told else 1

    def on_signal(self, number: int) -> None:
        """Take a signal: the head has got it too, and knows what follows."""
        name = signal.Signals(number).name
        self._teller.note(f"{name} came")
        warning = self._job.warning
        if warning is not None and f"SIG{warning[0].removeprefix('SIG')}" == name:
            self._tell("notice", number=number)
        elif number == signal.SIGTERM and not self._was_asked:
            self._was_asked = True
            self._group.start_soon(self._leave_in_time)

    async def _call(self) -> Line:
        address, port = str(self._card["address"]), int(self._card["call"])
        with anyio.move_on_after(self._job.deadlines.call_s):
            for pause_s in files.pauses():
                try:
                    return await call(address, port, self._job.silence_s)
                except OSError as error:
                    self._teller.note(f"the head does not answer: {error}")
                await anyio.sleep(pause_s)
        raise HeadGone(f"the head at {address}:{port} cannot be reached from this node")

    async def _listen(self, line: Line) -> bool:
        """Do as the head says. Returns whether the job ended well."""
        turn = 0
        while (message := await line.hear()) is not None:
            match message["what"]:
                case "welcome":
                    self._group.start_soon(self._work.run_services)
                case "refused":
                    raise ConfigError(f"the head refuses this node: {message.get('text')}")
                case "go" if message["turn"] != turn:
                    turn = message["turn"]
                    self._group.start_soon(self._work.keep_ray, str(message["address"]))
                case "end":
                    self._is_told = True
                    self._teller.note(f"the end: {message.get('text')}")
                    return bool(message.get("is_good"))
                case _:
                    pass
        words = "is silent" if line.is_silent else "has closed the line"
        self._teller.say(f"the head {words}; this node leaves")
        return False

    async def _leave_in_time(self) -> None:
        await anyio.sleep(self._job.driver_grace_s + OUTLIVE_S)
        self._teller.say("the head did not end the job in time; this node leaves")
        self._group.cancel_scope.cancel()

    async def _leave(self, is_good: bool) -> None:
        await self._work.stop()
        if self._job.ray_logs == "always" or (self._job.ray_logs == "failed" and not is_good):
            await anyio.to_thread.run_sync(self._work.keep_ray_logs)
        await anyio.to_thread.run_sync(self._setting.home.give_back)
        if self._line is not None:
            self._line.say("bye")
            await self._line.flush()
            self._line.close()

    def _tell(self, what: str, **fields: Any) -> None:
        if self._line is not None:
            if isinstance(stage := fields.get("stage"), Stage):
                fields["stage"] = int(stage)
            self._line.say(what, **fields)
