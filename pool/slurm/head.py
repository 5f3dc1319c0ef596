"""The head's node program: it calls the roll, judges, runs the driver, and ends the job.

It is the one place where it is known how everybody is, so it alone decides. What it knows it
publishes as `status.json`, so that nobody has to ask Slurm or a node for it.

It is long as all of this is one state; what can be told apart from it is in modules of its own:
`judge` what follows, `rollcall` who is there, `work` what runs, `driver`, `warning`, `asking`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from pool.errors import LaunchFailed, PoolError
from pool.process import logs
from pool.slurm import asking, deaths, files, wire
from pool.slurm import place as places
from pool.slurm.driver import Driver, exit_code
from pool.slurm.interactive import attach_script, attach_words
from pool.slurm.judge import Kind, NodeView, Seen, ServiceView, Stage, Verdict, judge, judge_losses
from pool.slurm.quorum import ranks_of
from pool.slurm.rollcall import RollServer
from pool.slurm.script import CODE_FILE
from pool.slurm.setting import Setting
from pool.slurm.telling import Teller
from pool.slurm.warning import asked_end, end_of, notice
from pool.slurm.work import NodeWork, tail_of

TICK_S = 0.5
"""How often deadlines are looked at; whatever happens is seen when it does."""
SAY_S = 10.0
"""How often progress is said although nothing has changed."""
STATUS_S = 5.0
"""How old a published status may get."""
SRUN_S = 1.0
"""How often what `srun` says is looked at."""
LEAVE_S = 2.0
"""How long the others may take to leave,"""
LEAVE_MOST_S = 60.0
"""and how long those who are heard of: they copy logs, or their cores are busy."""
PUBLISH_S = 5.0
"""How long the last words may take to be written, where a file system hangs."""
ASKED_TO_END = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})

HEAD_FILE = "head.json"
STATUS_FILE = "status.json"
NODE_FOLDER = "nodes"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the job ended.

    Args:
        code: Its exit code.
        why: In a sentence.
        rank: The node that is to blame, if it is one.
        service: The service that is, if it is one.
        requeue: Whether to put the job back.
    """

    code: int
    why: str
    rank: int | None = None
    service: str = ""
    requeue: bool = False


class Head:
    """Lead the job from the head's node.

    Args:
        setting: The head's node.
        teller: For the user.
    """

    def __init__(self, setting: Setting, teller: Teller) -> None:
        job, place = setting.job, setting.place
        self._setting = setting
        self._job = job
        self._place = place
        self._teller = teller
        self._folder = place.folder(job)
        self._nodes = [NodeView(rank=role.rank, host=role.host) for role in place.roles]
        self._services = [
            ServiceView(
                name=service.name,
                quorum=service.quorum,
                states=dict.fromkeys(ranks_of(service.where, len(place.roles)), "starting"),
                details={},
            )
            for service in job.services
        ]
        self._addresses: dict[int, str] = {}
        self._have_stayed: set[str] = set()
        self._tails: dict[tuple[int, str], str] = {}
        self._late_to_see: set[int] = set()
        self._turn = 0
        self._listens = False
        self._quorate_at: float | None = None
        self._ready_at: float | None = None
        self._phase = "bring-up"
        self._changed = anyio.Event()
        self._group = anyio.create_task_group()
        self._asked: int = 0
        self._is_unwanted = False
        self._notice: dict[str, Any] | None = None
        self._is_warned = False
        self._driver: Driver | None = None
        self._outcome: Outcome | None = None
        self._said = ("", 0.0)
        self._began_at = time.time()
        self._server = RollServer(
            place.key,
            job.silence_s,
            self._on_hello,
            self._on_message,
            lambda rank, why, is_silent: self._on_lost(rank, why, is_silent=is_silent),
        )
        self._work = NodeWork(
            job=job,
            place=place,
            home=setting.home,
            block=setting.block,
            address=setting.address,
            environ=setting.environ,
            tell=lambda what, **fields: self._on_message(0, {"what": what, **fields}),
            teller=teller,
        )

    @property
    def gcs(self) -> str:
        """Where the head's Ray listens."""
        return f"{self._setting.address}:{self._setting.block['gcs']}"

    async def run(self, take_signals: Callable[[Callable[[int], None]], None]) -> int:
        """Lead the job to its end, and return its exit code. Nothing of it is left here then.

        Args:
            take_signals: Called with what is to have the signals, once it can have them.
        """
        outcome = Outcome(1, "the head's node program broke")
        async with self._group as group:
            take_signals(self._on_signal)
            try:
                await self._server.open(self._setting.claim)
                await self._announce()
                self._update(0, stage=Stage.SEEN)
                self._addresses[0] = self._setting.address
                group.start_soon(self._publish_status)
                group.start_soon(self._hear_srun)
                group.start_soon(self._work.run_services)
                group.start_soon(self._work.keep_ray, "", self._on_listens)
                outcome = await self._lead()
            except (PoolError, OSError) as error:
                outcome = Outcome(1, str(error), 0)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._end(outcome)
                group.cancel_scope.cancel()
        return outcome.code

    def _on_signal(self, number: int) -> None:
        warning = self._job.warning
        name = signal.Signals(number).name
        if warning is not None and f"SIG{warning[0].removeprefix('SIG')}" == name:
            self._on_notice(name, warning[1])
        elif number in ASKED_TO_END:
            # Slurm and `srun` both send it. A second one must not disturb who is saving its work.
            if self._asked:
                return
            self._asked = number
            # When a warned job has to go back it is ended from here. Who ends it before, as
            # `scancel` does, does not want it back.
            self._is_unwanted = not self._must_requeue_now()
        if self._driver is not None and self._driver.exit is None:
            passed = self._driver.forward(number)
            words = "passed on to the driver" if passed else "which the driver does not handle"
            self._teller.say(f"{name} came, {words}")
        else:
            self._teller.say(f"{name} came")
        self._wake()

    async def _announce(self) -> None:
        limit_s = self._job.deadlines.head_s
        with anyio.move_on_after(limit_s):
            path = self._folder / HEAD_FILE
            await anyio.to_thread.run_sync(
                files.publish, path, self._card(), abandon_on_cancel=True
            )
            return
        raise TimeoutError(f"{self._folder / HEAD_FILE} could not be written in {limit_s:g} s")

    async def end_those_who_stay(self) -> None:
        """Have Slurm kill node programs that hang: nobody else can, and `srun` waits for them."""
        step = os.environ.get("SLURM_STEP_ID", "")
        if self._have_stayed and step:
            names = ", ".join(sorted(self._have_stayed))
            self._teller.say(f"{names} did not leave; Slurm is asked to end the step")
            if why := await asking.kill_step(self._place.job_id, step):
                self._teller.say(f"it does not: {why}")

    # --- what happens ---

    def _card(self) -> dict[str, Any]:
        return {
            "cluster": self._place.cluster,
            "job": self._place.job_id,
            "attempt": self._place.attempt,
            "host": self._place.role.host,
            "address": self._setting.address,
            "call": self._setting.block["call"],
            "gcs": self.gcs,
        }

    def _wake(self) -> None:
        self._changed.set()

    def _update(self, rank: int, *, stage: Stage, detail: str = "") -> None:
        before = self._nodes[rank]
        if before.stage is Stage.LOST:
            return  # for good
        self._nodes[rank] = replace(before, stage=stage, detail=detail)
        joined = sum(node.stage is Stage.JOINED for node in self._nodes)
        if joined < self._job.least:
            self._quorate_at = None
        elif self._quorate_at is None:
            self._quorate_at = self._teller.elapsed_s
        self._wake()

    def _on_hello(self, message: Mapping[str, Any]) -> str:
        if message["what"] == "lost":
            # It cannot take part, and knows only its name: the directory is not there.
            for node in self._nodes:
                if node.host == message.get("host"):
                    self._on_lost(node.rank, str(message.get("text")))
            return "noted"
        if self._outcome is not None:
            return f"it is over: {self._outcome.why}"
        rank, host = message.get("rank"), message.get("host")
        if not isinstance(rank, int) or not 0 < rank < len(self._nodes):
            return f"there is no rank {rank!r}"
        node = self._nodes[rank]
        if node.host != host or node.stage is not Stage.ABSENT:
            return f"rank {rank} is {node.host}, {node.stage.word}"
        self._addresses[rank] = str(message.get("address"))
        self._update(rank, stage=Stage.CALLED)
        self._group.start_soon(self._await_canary, rank)
        return ""

    async def _await_canary(self, rank: int) -> None:
        """Welcome a node once its file is seen here: then the directory is shared both ways."""
        path = self._folder / NODE_FOLDER / f"{rank}.json"

        def look() -> bool | None:
            found = files.read(path)
            return True if found and found.get("cluster") == self._place.cluster else None

        await files.wait_for(look)
        self._update(rank, stage=Stage.SEEN)
        self._server.say_to(rank, "welcome")
        if self._listens:
            self._server.say_to(rank, "go", address=self.gcs, turn=self._turn)

    def _on_listens(self) -> None:
        self._listens = True
        self._server.say("go", address=self.gcs, turn=self._turn)
        self._wake()

    def _begin_turn(self) -> None:
        """Begin anew with a head that does not listen yet: who had joined another has not."""
        self._turn += 1
        self._listens = False
        for node in self._nodes[1:]:
            if node.stage in (Stage.STARTING, Stage.JOINED):
                self._update(node.rank, stage=Stage.SEEN)

    def _on_message(self, rank: int, message: Mapping[str, Any]) -> None:
        match message["what"]:
            case "did":
                if message.get("tail"):
                    self._tails[rank, ""] = str(message["tail"])
                stage, detail = Stage(message["stage"]), str(message.get("detail", ""))
                if rank == 0 and stage is Stage.STARTING:
                    self._begin_turn()
                elif rank != 0 and message.get("turn") != self._turn and stage is not Stage.LOST:
                    return  # of a head that is no more
                if stage is Stage.JOINED and self._phase == "running":
                    self._teller.say(f"node {self._nodes[rank].host} (rank {rank}) has joined")
                self._update(rank, stage=stage, detail=detail)
                if message.get("tail"):
                    self._teller.say(f"node {self._nodes[rank].host} (rank {rank}): {detail}")
            case "service":
                self._on_service(rank, message)
            case "notice":
                warning = self._job.warning
                if warning is not None:
                    self._on_notice(f"SIG{warning[0].removeprefix('SIG')}", warning[1])
            case _:
                pass  # goodbyes are told when the line is closed

    def _on_service(self, rank: int, message: Mapping[str, Any]) -> None:
        for service in self._services:
            if service.name == message.get("name") and rank in service.states:
                service.states[rank] = str(message.get("state"))
                service.details[rank] = str(message.get("detail", ""))
                if message.get("tail"):
                    self._tails[rank, service.name] = str(message["tail"])
        self._wake()

    def _on_lost(self, rank: int, why: str, *, is_silent: bool = False) -> None:
        if is_silent:
            self._have_stayed.add(self._nodes[rank].host)
        if not why and self._outcome is None:
            why = "it left, and was not told to"
        if why:
            self._fail_services(rank, why)
            self._update(rank, stage=Stage.LOST, detail=why)
            known = self._nodes[rank].detail  # it may have said why itself
            if self._phase != "ending":
                self._teller.say(f"node {self._nodes[rank].host} (rank {rank}) is lost: {known}")

    async def _hear_srun(self) -> None:
        """Learn from `srun` of nodes that ended before they could call."""
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
                for node in self._nodes:
                    if node.host in hosts and node.stage is Stage.ABSENT:
                        self._on_lost(node.rank, f"its node program ended at once: {how}")
            await anyio.sleep(SRUN_S)

    def _fail_services(self, rank: int, why: str) -> None:
        for service in self._services:
            if rank in service.states:
                service.states[rank] = "failed"
                service.details[rank] = why

    def _on_notice(self, name: str, lead_s: int) -> None:
        if self._is_warned or self._phase in ("ending", "ended"):
            return
        self._is_warned = True
        self._group.start_soon(self._spread_notice, name, lead_s)

    async def _spread_notice(self, name: str, lead_s: int) -> None:
        came_at = time.time()
        end = end_of(os.environ)
        if end is None:
            # Older versions of Slurm do not tell a job. This is one question, and seldom.
            end = await asked_end(self._place.job_id)
        self._notice = notice(name, lead_s, came_at, end)
        left_s = self._notice["deadline"] - time.time()
        self._teller.say(f"notice: {self._notice['reason']}; {left_s:.0f} s are left")
        try:
            path = self._folder / "notice.json"
            await anyio.to_thread.run_sync(
                files.publish, path, self._notice, abandon_on_cancel=True
            )
        except OSError as error:
            self._teller.say(f"the notice cannot be published: {error}")
        self._wake()

    # --- what follows ---

    async def _lead(self) -> Outcome:
        if (failed := await self._bring_up()) is not None:
            return failed
        self._ready_at = time.time()
        self._phase = "running"
        self._wake()
        if not self._job.command:
            return await self._stay()
        try:
            self._driver = await Driver.start(self._job, self._place, self._driver_environ())
        except LaunchFailed as failure:
            return Outcome(127, f"the driver could not be started: {failure}")
        self._teller.say(f"the driver runs, pid {self._driver.pid}")
        self._group.start_soon(self._wake_at_end, self._driver)
        outcome = Outcome(1, "it is not known how the driver ended")
        async with anyio.create_task_group() as group:
            group.start_soon(self._driver.tee, self._teller)
            outcome = await self._attend(self._driver)
        return outcome  # noqa: RET504  # a return in the group is none for mypy

    async def _bring_up(self) -> Outcome | None:
        while True:
            changed = self._changed = anyio.Event()
            verdict = judge(self._seen(), self._job.deadlines, self._job.least)
            if self._must_requeue_now():
                return Outcome(1, f"its time is over, and {verdict.why}", requeue=True)
            if self._asked:
                return Outcome(128 + self._asked, "it was asked to end before the driver ran")
            self._progress(verdict.why, is_last=verdict.kind is Kind.GO)
            if verdict.kind is Kind.FAIL:
                return self._failed(verdict)
            if verdict.kind is Kind.GO:
                return None
            await _wait(changed)

    async def _attend(self, driver: Driver) -> Outcome:
        """See the driver to its end."""
        stop_at = None
        must_go_back = False
        while driver.exit is None:
            changed = self._changed = anyio.Event()
            loss = judge_losses(self._seen(), self._job.least)
            if loss is not None:
                await driver.stop(self._job.stop_grace_s)
                return self._failed(loss)
            if self._asked and stop_at is None:
                stop_at = self._teller.elapsed_s + self._job.driver_grace_s
            if self._must_requeue_now():
                must_go_back = True
                self._teller.say("the driver is asked to end, as the job has to go back now")
                await driver.stop(self._job.driver_grace_s)
            elif stop_at is not None and self._teller.elapsed_s >= stop_at:
                self._teller.say(f"the driver did not end in {self._job.driver_grace_s:g} s")
                await driver.stop(self._job.stop_grace_s)
            else:
                await _wait(changed)
        ended = driver.exit
        # One that was asked to end may well have ended with 0, and is not through.
        goes_back = self._may_go_back() and (must_go_back or not ended.is_clean)
        return Outcome(exit_code(ended), f"the driver ended ({ended})", requeue=goes_back)

    def _failed(self, verdict: Verdict) -> Outcome:
        """Give up: a warned job that loses too much, as to who takes its nodes, goes back."""
        requeue = self._may_go_back()
        return Outcome(1, verdict.why, verdict.rank, verdict.service, requeue=requeue)

    def _may_go_back(self) -> bool:
        return self._job.requeue == "notice" and self._is_warned and not self._is_unwanted

    def _must_requeue_now(self) -> bool:
        if self._notice is None or not self._may_go_back():
            return False
        margin_s = self._job.requeue_margin_s + self._job.driver_grace_s
        return bool(time.time() >= self._notice["deadline"] - margin_s)

    async def _stay(self) -> Outcome:
        """Keep the cluster up until somebody ends the job."""
        path = Path(self._job.workdir) / f"{self._place.job_id}-attach.sh"
        if await self._write(files.write_program, path, attach_script(self._job, self._place)):
            self._teller.say(f"the cluster is up; {path}, or: {attach_words(self._place.job_id)}")
        else:
            self._teller.say(f"the cluster is up: {attach_words(self._place.job_id)}")
        while True:
            changed = self._changed = anyio.Event()
            loss = judge_losses(self._seen(), self._job.least)
            if loss is not None:
                return self._failed(loss)
            if self._must_requeue_now():
                return Outcome(0, "its time is over", requeue=True)
            if self._asked:
                return Outcome(0, "it was asked to end")
            await _wait(changed)

    async def _wake_at_end(self, driver: Driver) -> None:
        await driver.wait()
        self._wake()

    def _driver_environ(self) -> dict[str, str]:
        return {
            **self._setting.environ,
            "RAY_ADDRESS": self.gcs,
            "POOL_SLURM_READY_EPOCH": f"{self._ready_at:.3f}",
        }

    async def _end(self, outcome: Outcome) -> None:
        """Have everybody leave, and leave."""
        self._outcome, self._phase = outcome, "ending"
        is_good = outcome.code == 0
        if outcome.rank is not None:
            await self._show_tail(outcome.rank, outcome.service)
        self._teller.say(f"the end: {outcome.why}")
        self._server.say("end", text=outcome.why, is_good=is_good)
        over = {**self._card(), "over": outcome.why}
        # One that goes back has little time: Slurm must be asked before all is killed.
        limit_s = LEAVE_S + self._job.requeue_margin_s / 2 if outcome.requeue else LEAVE_MOST_S
        with anyio.move_on_after(limit_s):
            async with anyio.create_task_group() as group:
                # Where it cannot be written srun's own code has to do.
                code = self._folder / CODE_FILE
                group.start_soon(self._write, files.write, code, f"{outcome.code}\n")
                # For those who have yet to call.
                group.start_soon(self._write, files.publish, self._folder / HEAD_FILE, over)
                group.start_soon(self._work.leave, is_good)
                if self._driver is not None:
                    group.start_soon(self._driver.stop, self._job.stop_grace_s)
                await self._see_others_leave()
        self._have_stayed |= {self._nodes[rank].host for rank in self._server.ranks}
        self._phase = "ended"
        await self._write(files.publish, self._folder / STATUS_FILE, self.status())
        await self._server.close()
        if outcome.requeue:
            why = await asking.requeue(self._place.job_id)
            self._teller.say(why or "the job goes back into the queue")

    async def _see_others_leave(self) -> None:
        """Wait until the others have left, and no longer for who does nothing for it."""
        with anyio.move_on_after(LEAVE_S + self._job.stop_grace_s):
            await self._server.gone()
        while self._server.heard_lately:
            with anyio.move_on_after(TICK_S):
                await self._server.gone()

    async def _write(self, write: Callable[[Path, Any], None], path: Path, what: object) -> bool:
        """Write a file if that can be done in time; returns whether it was."""
        try:
            with anyio.fail_after(PUBLISH_S):
                await anyio.to_thread.run_sync(write, path, what, abandon_on_cancel=True)
        except OSError as error:  # or it took too long
            why = str(error) or f"not in {PUBLISH_S:g} s"
            self._teller.note(f"{path} cannot be written: {why}")
            return False
        return True

    async def _show_tail(self, rank: int, service: str) -> None:
        host, count = self._nodes[rank].host, len(self._nodes)
        log = places.log_of_ray(self._folder, rank, count)
        if service:
            log = places.log_of_service(self._folder, service, rank, count)
        # What the node has sent along is newer than what a shared file system shows of it.
        tail = self._tails.get((rank, service), "")
        if not tail:
            other = None if service else places.log_of_node(self._folder, rank, count)
            with anyio.move_on_after(PUBLISH_S):
                log, tail = await anyio.to_thread.run_sync(
                    _look, log, other, abandon_on_cancel=True
                )
        title = f"the last lines of {log.name}, node {host} (rank {rank})"
        self._teller.show(title, tail[-wire.TAIL_MOST :])

    # --- what is shown ---

    def _seen(self) -> Seen:
        now = self._teller.elapsed_s
        return Seen(
            nodes=tuple(self._nodes),
            services=tuple(self._services),
            head_listens=self._listens,
            elapsed_s=now,
            quorate_s=None if self._quorate_at is None else now - self._quorate_at,
        )

    def _progress(self, why: str, *, is_last: bool) -> None:
        text, at = self._said
        now = self._teller.elapsed_s
        if why == text and now - at < SAY_S:
            return
        # Many nodes change at once; a line for each helps nobody. The last is always said.
        if now - at >= 1 or is_last or not text:
            self._teller.say(why)
            self._said = (why, now)

    async def _publish_status(self) -> None:
        written: object = None
        at = 0.0
        while True:
            state = (tuple(self._nodes), self._phase, self._notice, str(self._services))
            now = self._teller.elapsed_s
            if state != written or now - at >= STATUS_S:
                written, at = state, now
                await self._write(files.publish, self._folder / STATUS_FILE, self.status())
            await anyio.sleep(TICK_S)

    def status(self) -> dict[str, Any]:
        """Return what `pool slurm status` shows."""
        driver, outcome = self._driver, self._outcome
        block = self._setting.block
        return {
            **self._card(),
            "name": self._job.name,
            "phase": self._phase,
            "dashboard": f"{self._setting.address}:{block['dashboard']}",
            "started_at": self._began_at,
            "ready_at": self._ready_at,
            "updated_at": time.time(),
            "min_nodes": self._job.least,
            "nodes": [
                {
                    "rank": node.rank,
                    "host": node.host,
                    "address": self._addresses.get(node.rank),
                    "state": node.stage.name.lower(),
                    "detail": node.detail,
                }
                for node in self._nodes
            ],
            "services": [
                {
                    "name": service.name,
                    "needed": service.needed,
                    "states": {str(rank): state for rank, state in service.states.items()},
                    "details": {str(rank): said for rank, said in service.details.items() if said},
                }
                for service in self._services
            ],
            "driver": None if driver is None else {
                "pid": driver.pid,
                "exit": None if driver.exit is None else exit_code(driver.exit),
            },
            "notice": self._notice,
            "outcome": None if outcome is None else {"code": outcome.code, "why": outcome.why},
        }  # fmt: skip


def _look(log: Path, other: Path | None) -> tuple[Path, str]:
    """Return a log, or another if it is not there, and its last lines."""
    found = log if other is None or log.exists() else other
    return found, tail_of(found)


async def _wait(changed: anyio.Event) -> None:
    with anyio.move_on_after(TICK_S):
        await changed.wait()
