"""The node program of every node but the head: it calls, does as it is told, and leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.abc

from pool.errors import PoolError
from pool.slurm import files
from pool.slurm.board import HEAD_FILE
from pool.slurm.job import SlurmJob
from pool.slurm.judge import Stage
from pool.slurm.place import Place
from pool.slurm.reception import NODE_FOLDER
from pool.slurm.rollcall import HELLO_S, Line, RollServer, call
from pool.slurm.setting import Setting
from pool.slurm.telling import Teller
from pool.slurm.work import NodeWork

COMPLAIN_S = 5.0
"""How long an answer to a complaint may take."""
COMPLAIN_EVERY_S = 5.0
REFUSED_MOST = 8
"""How often a connection is refused, within seconds, by a head that listened before it said so."""
OUTLIVE_S = 5.0
"""How much longer than the driver may take a worker waits, once all were asked to end."""


class HeadGone(PoolError):
    """Say that there is no head to join; nobody is to be told."""


async def complain(place: Place, calls: Sequence[int], text: str) -> bool:
    """Tell the head, by its name and not by its file, why this node cannot take part.

    Returns:
        Whether a head of this run has heard it.
    """
    for port in calls:
        try:
            line = await call(place.roles[0].host, port, COMPLAIN_S)
        except OSError:
            continue
        answer = None
        if not await line.introduce(place.key, "lost", COMPLAIN_S, host=place.role.host, text=text):
            with anyio.move_on_after(COMPLAIN_S):
                answer = await line.hear()
        line.close()
        if answer is not None and answer.get("text") == "noted":
            return True
    return False


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
        found = None
        with anyio.move_on_after(job.deadlines.canary_s):
            found = await files.wait_for(look)
        while found is None:
            # A head of this run that answers has published its file: it is not seen from here.
            text = f"{path} is not seen here{strange}; is its directory shared?"
            if await complain(place, job.ports.calls(), text):
                raise HeadGone(text)
            with anyio.move_on_after(COMPLAIN_EVERY_S):
                found = await files.wait_for(look)
        if "over" in found:
            raise HeadGone(f"it is over: {found['over']}")
        own = path.parent / NODE_FOLDER / f"{place.role.rank}.json"
        card = {"cluster": place.cluster, "rank": place.role.rank, "host": place.role.host}
        await anyio.to_thread.run_sync(files.publish, own, card, abandon_on_cancel=True)
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
        self._group = anyio.create_task_group()
        self._was_asked = False
        self._is_told = False
        self._refusal = ""
        self._turn = 0
        self._is_over = False
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

    async def run(self, take_signals: Callable[[Callable[[int], None]], None]) -> int:
        """Work, and return the exit code: 0 if the head has told this node to leave.

        Args:
            take_signals: Called with what is to have the signals, once it can have them.
        """
        place = self._setting.place
        is_good = False
        # The port that claims this node's block may have been that of another's head a moment ago:
        # who calls it is told, and does not wait for an answer.
        refuser = RollServer(
            place.key,
            self._job.silence_s,
            hello=lambda _: "this node is no head",
            hear=lambda *_: None,
            lost=lambda *_: None,
        )
        try:
            await refuser.open(self._setting.claim)
            line = await self._call()
            if why := await line.introduce(
                place.key,
                "hello",
                max(HELLO_S, self._job.silence_s),
                rank=place.role.rank,
                host=place.role.host,
                address=self._setting.address,
            ):
                line.close()
                raise HeadGone(f"the head does not take this node: {why}")
            self._line = line
            # It beats to the end: the head waits for who is still at work.
            async with anyio.create_task_group() as beats:
                beats.start_soon(line.keep)
                try:
                    async with self._group as group:
                        take_signals(self._on_signal)
                        is_good = await self._listen(line)
                        self._is_over = True
                        group.cancel_scope.cancel()
                finally:
                    self._is_over = True
                    beats.start_soon(line.ignore)
                    with anyio.CancelScope(shield=True):
                        await self._leave(line, is_good)
                beats.cancel_scope.cancel()
            if self._refusal:
                raise HeadGone(f"the head refuses this node: {self._refusal}")
        finally:
            with anyio.CancelScope(shield=True):
                await refuser.close()
        return 0 if self._is_told else 1

    def _on_signal(self, number: int) -> None:
        """Take a signal: the head has got it too, and knows what follows."""
        name = signal.Signals(number).name
        self._teller.note(f"{name} came")
        warning = self._job.warning
        if warning is not None and f"SIG{warning[0].removeprefix('SIG')}" == name:
            self._tell("notice", number=number)
        elif number == signal.SIGTERM and not (self._was_asked or self._is_over):
            self._was_asked = True
            self._group.start_soon(self._leave_in_time)

    async def _call(self) -> Line:
        address, port = str(self._card["address"]), int(self._card["call"])
        refused = 0
        with anyio.move_on_after(self._job.deadlines.call_s):
            for pause_s in files.pauses():
                try:
                    return await call(address, port, self._job.silence_s)
                except OSError as error:
                    self._teller.note(f"the head does not answer: {error}")
                    refused += isinstance(error, ConnectionRefusedError)
                path = self._setting.place.folder(self._job) / HEAD_FILE
                found = await anyio.to_thread.run_sync(files.read, path, abandon_on_cancel=True)
                if found and "over" in found:
                    raise HeadGone(f"it is over: {found['over']}")
                if refused >= REFUSED_MOST:
                    break
                await anyio.sleep(pause_s)
        raise HeadGone(f"the head at {address}:{port} cannot be reached from this node")

    async def _listen(self, line: Line) -> bool:
        """Do as the head says. Returns whether the job ended well."""
        while (message := await line.hear()) is not None:
            match message["what"]:
                case "welcome":
                    self._group.start_soon(self._work.run_services)
                case "refused":
                    self._refusal = str(message.get("text"))
                    return False
                case "go" if message["turn"] != self._turn:
                    self._turn = message["turn"]
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
        self._tell("did", stage=Stage.LOST, detail="it was asked to end")
        self._group.cancel_scope.cancel()

    async def _leave(self, line: Line, is_good: bool) -> None:
        await self._work.leave(is_good)
        await anyio.to_thread.run_sync(self._setting.home.give_back)
        line.say("bye")
        await line.flush()
        line.close()

    def _tell(self, what: str, **fields: Any) -> None:
        if self._line is not None:
            if isinstance(stage := fields.get("stage"), Stage):
                fields |= {"stage": int(stage), "turn": self._turn}
            self._line.say(what, **fields)
