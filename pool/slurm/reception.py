"""Where the head receives the others: it takes them in, hears them out, and sees them off.

What it hears goes into the standing. Of a node that never calls `srun` alone knows what became, so
it is heard here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread

from pool.process import logs
from pool.slurm import deaths, files
from pool.slurm.bulletin import gcs_of
from pool.slurm.course import Course, Phase
from pool.slurm.judge import Stage
from pool.slurm.rollcall import RollServer
from pool.slurm.setting import Setting
from pool.slurm.standing import Standing
from pool.slurm.telling import Teller

SRUN_S = 1.0
"""How often what `srun` says is looked at."""
LEAVE_S = 2.0
"""How long the others may take to leave,"""
LEAVE_MOST_S = 60.0
"""and how long those who are heard of: they copy logs, or their cores are busy."""
LOOK_S = 0.5
"""How often it is looked who is still heard of."""

NODE_FOLDER = "nodes"


class Reception:
    """The head's dealings with the others.

    Args:
        setting: The head's node.
        teller: For the user.
        standing: What is known of them.
        course: How the job goes.
        group: Runs what has to be waited for.
        warned: Called when one of them got the signal that warns of the end.
    """

    def __init__(
        self,
        *,
        setting: Setting,
        teller: Teller,
        standing: Standing,
        course: Course,
        group: anyio.abc.TaskGroup,
        warned: Callable[[], None],
    ) -> None:
        self._setting = setting
        self._teller = teller
        self._standing = standing
        self._course = course
        self._group = group
        self._warned = warned
        self._folder = setting.place.folder(setting.job)
        self._stayed: set[str] = set()
        self._server = RollServer(
            setting.place.key,
            setting.job.silence_s,
            self._on_hello,
            self.hear,
            lambda rank, why, is_silent: self._on_lost(rank, why, is_silent=is_silent),
        )

    @property
    def stayed(self) -> frozenset[str]:
        """The hosts whose node programs hang, as far as is known."""
        return frozenset(self._stayed)

    # --- they come ---

    async def open(self) -> None:
        """Let them call."""
        await self._server.open(self._setting.claim)

    def _on_hello(self, message: Mapping[str, Any]) -> str:
        if message["what"] == "lost":
            # It cannot take part, and knows only its name: the directory is not there.
            for node in self._standing.nodes:
                if node.host == message.get("host"):
                    self._on_lost(node.rank, str(message.get("text")))
            return "noted"
        if self._course.outcome is not None:
            return f"it is over: {self._course.outcome.why}"
        rank, address = message.get("rank"), str(message.get("address"))
        now_s = self._teller.elapsed_s
        if refusal := self._standing.admit(rank, message.get("host"), address, now_s):
            return refusal
        self._group.start_soon(self._await_canary, int(message["rank"]))
        return ""

    async def _await_canary(self, rank: int) -> None:
        """Welcome a node once its file is seen here: then the directory is shared both ways."""
        path = self._folder / NODE_FOLDER / f"{rank}.json"

        def look() -> bool | None:
            found = files.read(path)
            return True if found and found.get("cluster") == self._setting.place.cluster else None

        await files.wait_for(look)
        self._standing.move(rank, Stage.SEEN, self._teller.elapsed_s)
        self._server.say_to(rank, "welcome")
        if self._standing.head_listens:
            self._server.say_to(rank, "go", **self._ray())

    def call_to_ray(self) -> None:
        """Have them join the head's Ray, which listens now."""
        self._standing.listen()
        self._server.say("go", **self._ray())

    def _ray(self) -> dict[str, Any]:
        return {"address": gcs_of(self._setting), "turn": self._standing.turn}

    # --- they are heard ---

    def hear(self, rank: int, message: Mapping[str, Any]) -> None:
        """Take a message, of another node or of the head's own."""
        match message["what"]:
            case "did":
                self._on_progress(rank, message)
            case "service":
                self._standing.report_service(
                    rank,
                    str(message.get("name")),
                    str(message.get("state")),
                    detail=str(message.get("detail", "")),
                    tail=str(message.get("tail") or ""),
                )
            case "notice":
                self._warned()
            case _:
                pass  # goodbyes are told when the line is closed

    def _on_progress(self, rank: int, message: Mapping[str, Any]) -> None:
        stage, detail = Stage(message["stage"]), str(message.get("detail", ""))
        counts = self._standing.report(
            rank,
            stage,
            self._teller.elapsed_s,
            detail=detail,
            tail=str(message.get("tail") or ""),
            turn=message.get("turn"),
        )
        if not counts:
            return
        if stage is Stage.JOINED and self._course.phase is Phase.RUNNING:
            self._teller.say(f"{self._standing.name(rank)} has joined")
        if message.get("tail"):
            self._teller.say(f"{self._standing.name(rank)}: {detail}")

    def _on_lost(self, rank: int, why: str, *, is_silent: bool = False) -> None:
        if is_silent:
            self._stayed.add(self._standing.nodes[rank].host)
        if not why and self._course.outcome is None:
            why = "it left, and was not told to"
        if why:
            known = self._standing.lose(rank, why, self._teller.elapsed_s)
            if self._course.phase is not Phase.ENDING:
                self._teller.say(f"{self._standing.name(rank)} is lost: {known}")

    async def hear_srun(self) -> None:
        """Learn from `srun` of nodes that ended before they could call, until cancelled."""
        path, cursor = self._folder / deaths.FILE, None
        while True:
            try:
                text, cursor = await anyio.to_thread.run_sync(
                    logs.read, path, cursor, abandon_on_cancel=True
                )
            except OSError:
                text = ""
            for line in text.splitlines():
                hosts, how = deaths.ended(line)
                for node in self._standing.nodes:
                    if node.host in hosts and node.stage is Stage.ABSENT:
                        self._on_lost(node.rank, f"its node program ended at once: {how}")
            await anyio.sleep(SRUN_S)

    # --- they leave ---

    def send_off(self, why: str, *, is_good: bool) -> None:
        """Tell them to leave."""
        self._server.say("end", text=why, is_good=is_good)

    async def see_off(self) -> None:
        """Wait until they have left, and no longer for who does nothing for it."""
        with anyio.move_on_after(LEAVE_S + self._setting.job.stop_grace_s):
            await self._server.gone()
        while self._server.heard_lately:
            with anyio.move_on_after(LOOK_S):
                await self._server.gone()

    def note_who_stays(self) -> None:
        """Count who is still there as one that hangs."""
        self._stayed |= {self._standing.nodes[rank].host for rank in self._server.ranks}

    async def close(self) -> None:
        """Hang up, and let nobody call any more."""
        await self._server.close()
