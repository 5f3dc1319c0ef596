"""The head's node program: it calls the roll, judges, runs the driver, and ends the job.

It is the one place where it is known how everybody is, so it alone decides. What it knows is kept
by `standing` (of nodes and services) and `course` (of the job), and weighed by `judge`; `reception`
deals with the others, and on the `board` is what all may read. Here is what comes after what.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from pool.errors import LaunchFailed, PoolError
from pool.slurm import asking, files
from pool.slurm.board import Board
from pool.slurm.bulletin import card_of, gcs_of, status_of
from pool.slurm.course import ASKED_TO_END, Course, Outcome
from pool.slurm.driver import Driver
from pool.slurm.interactive import attach_script, attach_words
from pool.slurm.judge import Kind, Seen, judge, judge_losses
from pool.slurm.reception import LEAVE_MOST_S, LEAVE_S, Reception
from pool.slurm.setting import Setting
from pool.slurm.standing import Standing
from pool.slurm.telling import Teller
from pool.slurm.warning import asked_end, end_of, notice
from pool.slurm.work import NodeWork

TICK_S = 0.5
"""How often deadlines are looked at; whatever happens is seen when it does."""


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
        self._changed = anyio.Event()
        self._group = anyio.create_task_group()
        self._driver: Driver | None = None
        self._standing = Standing(place.roles, job.services, job.least, self._wake)
        self._course = Course(job, time.time())
        self._board = Board(place.folder(job), teller)
        self._reception = Reception(
            setting=setting,
            teller=teller,
            standing=self._standing,
            course=self._course,
            group=self._group,
            warned=self._on_warning,
        )
        self._work = NodeWork(
            job=job,
            place=place,
            home=setting.home,
            block=setting.block,
            address=setting.address,
            environ=setting.environ,
            tell=lambda what, **fields: self._reception.hear(0, {"what": what, **fields}),
            teller=teller,
        )

    async def run(self, take_signals: Callable[[Callable[[int], None]], None]) -> int:
        """Lead the job to its end, and return its exit code. Nothing of it is left here then.

        Args:
            take_signals: Called with what is to have the signals, once it can have them.
        """
        outcome = Outcome(1, "the head's node program broke")
        async with self._group as group:
            take_signals(self._on_signal)
            try:
                await self._reception.open()
                await self._board.announce(card_of(self._setting), self._job.deadlines.head_s)
                self._standing.place_head(self._setting.address, self._teller.elapsed_s)
                group.start_soon(self._board.keep_status, self._status, self._news)
                group.start_soon(self._reception.hear_srun)
                group.start_soon(self._work.run_services)
                group.start_soon(self._work.keep_ray, "", self._reception.call_to_ray)
                outcome = await self._lead()
            except (PoolError, OSError) as error:
                outcome = Outcome(1, str(error), 0)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._end(outcome)
                group.cancel_scope.cancel()
        return outcome.code

    async def end_those_who_stay(self) -> None:
        """Have Slurm kill node programs that hang: nobody else can, and `srun` waits for them."""
        step = os.environ.get("SLURM_STEP_ID", "")
        if self._reception.stayed and step:
            names = ", ".join(sorted(self._reception.stayed))
            self._teller.say(f"{names} did not leave; Slurm is asked to end the step")
            if why := await asking.kill_step(self._place.job_id, step):
                self._teller.say(f"it does not: {why}")

    # --- what happens ---

    def _wake(self) -> None:
        self._changed.set()

    def _on_signal(self, number: int) -> None:
        warning = self._course.warning
        name = signal.Signals(number).name
        if warning is not None and warning[0] == name:
            self._on_warning()
        elif number in ASKED_TO_END and not self._course.ask(number, time.time()):
            return  # a second one must not disturb who is saving its work
        if self._driver is not None and self._driver.exit is None:
            passed = self._driver.forward(number)
            words = "passed on to the driver" if passed else "which the driver does not handle"
            self._teller.say(f"{name} came, {words}")
        else:
            self._teller.say(f"{name} came")
        self._wake()

    def _on_warning(self) -> None:
        warning = self._course.warning
        if warning is not None and self._course.warn():
            self._group.start_soon(self._spread_notice, *warning)

    async def _spread_notice(self, name: str, lead_s: int) -> None:
        came_at = time.time()
        end = end_of(os.environ)
        if end is None:
            # Older versions of Slurm do not tell a job. This is one question, and seldom.
            end = await asked_end(self._place.job_id)
        found = notice(name, lead_s, came_at, end)
        self._course.take_notice(found)
        left_s = found["deadline"] - time.time()
        self._teller.say(f"notice: {found['reason']}; {left_s:.0f} s are left")
        await self._board.give_notice(found)
        self._wake()

    # --- what follows ---

    async def _lead(self) -> Outcome:
        if (failed := await self._bring_up()) is not None:
            return failed
        ready_at = time.time()
        self._course.run(ready_at)
        self._wake()
        if not self._job.command:
            return await self._stay()
        environ = {
            **self._setting.environ,
            "RAY_ADDRESS": gcs_of(self._setting),
            "POOL_SLURM_READY_EPOCH": f"{ready_at:.3f}",
        }
        try:
            self._driver = await Driver.start(self._job, self._place, environ)
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
            if self._course.must_go_back(time.time()):
                return Outcome(1, f"its time is over, and {verdict.why}", requeue=True)
            if asked := self._course.asked:
                return Outcome(128 + asked, "it was asked to end before the driver ran")
            self._board.progress(verdict.why, is_last=verdict.kind is Kind.GO)
            if verdict.kind is Kind.FAIL:
                return self._course.failed(verdict)
            if verdict.kind is Kind.GO:
                return None
            await _wait(changed)

    async def _attend(self, driver: Driver) -> Outcome:
        """See the driver to its end."""
        stop_at = None
        had_to = False
        while driver.exit is None:
            changed = self._changed = anyio.Event()
            loss = judge_losses(self._seen(), self._job.least)
            if loss is not None:
                await driver.stop(self._job.stop_grace_s)
                return self._course.failed(loss)
            if self._course.asked and stop_at is None:
                stop_at = self._teller.elapsed_s + self._job.driver_grace_s
            if self._course.must_go_back(time.time()):
                had_to = True
                self._teller.say("the driver is asked to end, as the job has to go back now")
                await driver.stop(self._job.driver_grace_s)
            elif stop_at is not None and self._teller.elapsed_s >= stop_at:
                self._teller.say(f"the driver did not end in {self._job.driver_grace_s:g} s")
                await driver.stop(self._job.stop_grace_s)
            else:
                await _wait(changed)
        return self._course.driver_ended(driver.exit, had_to=had_to)

    async def _stay(self) -> Outcome:
        """Keep the cluster up until somebody ends the job."""
        path = Path(self._job.workdir) / f"{self._place.job_id}-attach.sh"
        script = attach_script(self._job, self._place)
        if await self._board.write(files.write_program, path, script):
            self._teller.say(f"the cluster is up; {path}, or: {attach_words(self._place.job_id)}")
        else:
            self._teller.say(f"the cluster is up: {attach_words(self._place.job_id)}")
        while True:
            changed = self._changed = anyio.Event()
            loss = judge_losses(self._seen(), self._job.least)
            if loss is not None:
                return self._course.failed(loss)
            if self._course.must_go_back(time.time()):
                return Outcome(0, "its time is over", requeue=True)
            if self._course.asked:
                return Outcome(0, "it was asked to end")
            await _wait(changed)

    async def _wake_at_end(self, driver: Driver) -> None:
        await driver.wait()
        self._wake()

    async def _end(self, outcome: Outcome) -> None:
        """Have everybody leave, and leave."""
        self._course.end(outcome)
        is_good = outcome.code == 0
        if outcome.rank is not None:
            await self._board.show_tail(outcome.rank, outcome.service, self._standing)
        self._teller.say(f"the end: {outcome.why}")
        self._reception.send_off(outcome.why, is_good=is_good)
        # One that goes back has little time: Slurm must be asked before all is killed.
        limit_s = LEAVE_S + self._job.requeue_margin_s / 2 if outcome.requeue else LEAVE_MOST_S
        with anyio.move_on_after(limit_s):
            async with anyio.create_task_group() as group:
                group.start_soon(self._board.leave_code, outcome.code)
                group.start_soon(self._board.withdraw, card_of(self._setting), outcome.why)
                group.start_soon(self._work.leave, is_good)
                if self._driver is not None:
                    group.start_soon(self._driver.stop, self._job.stop_grace_s)
                await self._reception.see_off()
        self._reception.note_who_stays()
        self._course.close()
        await self._board.publish_status(self._status())
        await self._reception.close()
        if outcome.requeue:
            why = await asking.requeue(self._place.job_id)
            self._teller.say(why or "the job goes back into the queue")

    # --- what is known ---

    def _seen(self) -> Seen:
        return self._standing.seen(self._teller.elapsed_s)

    def _status(self) -> dict[str, Any]:
        return status_of(self._setting, self._course, self._standing, self._driver, time.time())

    def _news(self) -> object:
        """Return what is published as soon as it is another."""
        standing, course = self._standing, self._course
        return standing.nodes, course.phase, course.notice, standing.services


async def _wait(changed: anyio.Event) -> None:
    with anyio.move_on_after(TICK_S):
        await changed.wait()
