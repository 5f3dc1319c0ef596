"""The life of one process on its node: started, awaited, watched, started again, stopped.

Each start is a life of its own, with the states that members of a pool have; `gone` as the state of
the whole means gone for good. Whether an end is answered with another start, and when, is decided
by the pure functions that decide it for members (`pool.planning`).

Limits: it lives in one event loop, with whose end the process is stopped. When its owner is killed
the process's warden stops it (`pool.process.launch`); nothing here can.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pool.errors import ConfigError, LaunchFailed, PoolError, ProcessFailed, ProcessTimeout
from pool.planning.health import Verdict
from pool.planning.lifecycle import Lifecycle, State
from pool.planning.restart import Cause, Failure, GiveUp, plan_restart, prune
from pool.process import logs, probes
from pool.process.checks import until_ready, while_alive
from pool.process.exits import Exit, StopReport
from pool.process.launch import Running, launch
from pool.process.order import Launch
from pool.process.probes import Site
from pool.process.spec import Process, resolve
from pool.process.tasks import in_spite_of_cancellation, in_thread, tasks

OnFailed = Callable[[Cause, str], None]
LaunchFunction = Callable[[Launch], Awaitable[Running]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """Show a managed process at one moment. Times are UNIX seconds.

    Args:
        name: Its name.
        state: Where its present start is; `pending` while the next is waited for, `gone` for good.
        since: When it entered that state.
        reason: Why it did.
        pid: Its process id on the node; None while it does not run.
        created: When that process was created, in clock ticks after the node's boot.
        ready_since: When the present start got ready; None if it is not.
        starts: How often it was started.
        next_start: When it is started again, while that is waited for.
        health: What was last learnt from its liveness probe, if it has one.
        exit: How it ended the last time; None if it never did.
        ports: Its leased ports, by name.
        log: Where its output is, on its node.
    """

    name: str
    state: State
    since: float
    reason: str
    pid: int | None
    created: int | None
    ready_since: float | None
    starts: int
    next_start: float | None
    health: str
    exit: Exit | None
    ports: Mapping[str, int]
    log: str


@dataclass(frozen=True, slots=True)
class _End:
    """How one start ended, and why; no cause is an end that was asked for, or a finish."""

    exit: Exit | None
    cause: Cause | None = None
    detail: str = ""
    error: Exception | None = None
    ran_s: float = 0.0


class ManagedProcess:
    """Keep one process running on this node, as its description says.

    Args:
        spec: What is run.
        environment: The environment it gets, whole, to which its own variables are added.
        ports: The leased ports, by name.
        address: The node's address.
        log: Where its output goes. Each start appends.
        identity: Whose it is, as is written on the process; the default is its name.
        launch: What starts it.
        on_failed: Called once, on the loop, with the cause and what happened, if the process ends
            for good without having been asked to, after it was ready once. A `start` that fails
            tells its caller instead. An exit code of 0 is no failure where there is no restart.

    Raises:
        ConfigError: A `Fill` names what is not there, or a port is missing.
    """

    def __init__(
        self,
        spec: Process,
        *,
        environment: Mapping[str, str],
        ports: Mapping[str, int],
        address: str,
        log: Path,
        identity: str = "",
        launch: LaunchFunction = launch,
        on_failed: OnFailed | None = None,
    ) -> None:
        resolved = resolve(spec, environment=environment, ports=ports, address=address)
        self.spec = spec
        self.log = log
        self.ports: Mapping[str, int] = {name: ports[name] for name in spec.ports}
        self._launch = launch
        self._on_failed = on_failed
        self._what = Launch(
            argv=resolved.argv,
            env=resolved.env,
            cwd=spec.cwd if spec.cwd is None else str(spec.cwd),
            log=log,
            limit=spec.log,
            grace_s=spec.grace_s,
            identity=identity or spec.name,
        )
        self._address = address
        self._starts = 0
        self._failures: tuple[Failure, ...] = ()
        self._failure: Exception | None = None
        self._running: Running | None = None
        self._exit: Exit | None = None
        self._report: StopReport | None = None
        self._health = ""
        self._log_begin: logs.Cursor | None = None
        self._ready_since: float | None = None
        self._next_start: float | None = None
        self._grace_s = spec.grace_s
        self._is_put_down = False
        self._is_stopping = asyncio.Event()
        self._was_ready = False
        self._is_settled = asyncio.Event()
        """The first start is ready, or all is over."""
        self._is_gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._begin_life()

    async def start(self) -> None:
        """Start the process, and wait until it is ready.

        A first start that fails is not tried again, whatever the restart policy says: it is mostly
        the description that is wrong. Nothing of the process is left then.

        Raises:
            LaunchFailed: There is no such program, or it cannot be run.
            ProcessFailed: It ended before it was ready, or was stopped.
            ProcessTimeout: It was not ready in time.
            PoolError: It was started before.

        Cancelled, it stops the process first, and leaves nothing (INV-11).
        """
        if self._task is not None:
            raise PoolError(f"process {self.spec.name!r} was started before; make it anew")
        if not self._is_gone.is_set():
            self._task = asyncio.create_task(self._live(), name=f"process {self.spec.name}")
        try:
            await self._is_settled.wait()
        except asyncio.CancelledError:
            self._is_stopping.set()
            await in_spite_of_cancellation(self._is_gone.wait())
            raise
        if not self._was_ready:
            raise self._failure or ProcessFailed(
                self.spec.name, "was stopped before it was ready", log_tail=await self._tail()
            )

    async def wait(self) -> Exit | None:
        """Wait for its end for good.

        Returns:
            How it ended the last time; None if it never ran.
        """
        await self._is_gone.wait()
        return self._exit

    async def stop(self, grace_s: float | None = None) -> StopReport:
        """Stop the process and all that it started, and do not start it again. Idempotent.

        Calls at one time share one stop; the grace that is over first counts. A `start` that is
        under way fails. Cancelled, the stop itself goes on.

        Args:
            grace_s: Seconds from SIGTERM to SIGKILL; None is the description's own.

        Returns:
            How it ended, and what that took.

        Raises:
            ConfigError: `grace_s` is out of its range.
        """
        if grace_s is not None and not (math.isfinite(grace_s) and grace_s >= 0):
            raise ConfigError(f"grace_s is {grace_s!r}; give 0 or more seconds, or None", "grace_s")
        wanted_s = self.spec.grace_s if grace_s is None else grace_s
        is_first = not self._is_stopping.is_set()
        self._grace_s = wanted_s if is_first else min(wanted_s, self._grace_s)
        self._is_stopping.set()
        if self._task is None and not self._is_gone.is_set():
            self._end_for_good("it was stopped before it was started")
        if self._is_put_down and self._running is not None:
            # It is being stopped already, perhaps since it is not alive, and may have longer.
            await self._running.stop(self._grace_s)
        await self._is_gone.wait()
        return self._report or StopReport(self._exit or Exit(), "already", 0)

    def signal(self, number: int) -> None:
        """Send a signal to the process itself.

        Raises:
            PoolError: It does not run now.
        """
        if self._running is None or not self._running.signal(number):
            message = f"process {self.spec.name!r} does not run now, so that no signal can be sent"
            raise PoolError(message)

    def check_health(self) -> None:
        """Return unless the process ended for good without having been asked to.

        A process that is being started again is not its host's failure. Safe to call from any
        thread.

        Raises:
            ProcessFailed: It did; what happened.
        """
        if self._failure is not None:
            raise self._failure

    def status(self) -> ProcessStatus:
        """Show the process as it is now. Safe to call from any thread."""
        running = self._running
        return ProcessStatus(
            name=self.spec.name,
            state=self._life.state,
            since=self._life.since,
            reason=self._reason,
            pid=running.pid if running else None,
            created=running.created if running else None,
            ready_since=self._ready_since,
            starts=self._starts,
            next_start=self._next_start,
            health=self._health,
            exit=self._exit,
            ports=dict(self.ports),
            log=str(self.log),
        )

    # --- one start after the other -----------------------------------------------------------

    async def _live(self) -> None:
        """Start it again for as long as the policy says, and end for good."""
        reason = "it was stopped"
        try:
            while not self._is_stopping.is_set():
                end = await self._run_once()
                reason = end.detail
                if self._is_stopping.is_set() or not await self._is_to_go_on(end):
                    break
                reason = "it was stopped"
        except Exception as error:
            # A mistake in this package must not look like a process that is well.
            reason = f"failed by {error!r}"
            self._failure = ProcessFailed(self.spec.name, reason)
            if self._was_ready:
                self._give_up(Cause.CRASH, self._failure)
            raise
        finally:
            self._end_for_good(reason)

    async def _is_to_go_on(self, end: _End) -> bool:
        """Decide what follows from an end that nobody asked for; wait until it is to follow."""
        if end.cause is None:
            return False
        if not self._was_ready:
            self._failure = end.error
            return False
        if self.spec.restart is None:
            self._give_up(end.cause, end.error)
            return False
        loop = asyncio.get_running_loop()
        failure = Failure(loop.time(), end.cause, end.detail, 0, end.ran_s)
        self._failures = prune(self.spec.restart, (*self._failures, failure), failure.at)
        answer = plan_restart(
            self.spec.restart, self._failures, slot=0, now=failure.at, key=self._what.identity
        )
        if isinstance(answer, GiveUp):
            detail = f"is given up: {answer.reason}"
            self._give_up(answer.cause, self._failed(detail, end.exit, await self._tail()))
            return False
        self._begin_life(answer.reason)
        self._next_start = time.time() + answer.not_before - loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(answer.not_before):
                await self._is_stopping.wait()
        self._next_start = None
        return not self._is_stopping.is_set()

    def _give_up(self, cause: Cause, error: Exception | None) -> None:
        self._failure = error
        if self._on_failed is not None:
            # Not called from here: what it raises is for the loop to report, and not for us.
            asyncio.get_running_loop().call_soon(self._on_failed, cause, str(error))

    # --- one start ---------------------------------------------------------------------------

    async def _run_once(self) -> _End:
        self._starts += 1
        self._report = None
        self._is_put_down = False
        self._health = ""
        self._advance(State.STARTING, f"start {self._starts}")
        site: Site | None = None
        try:
            site = await in_thread(self._look_around)
            self._log_begin = site.log_begin
            running = await self._launched()
        except (LaunchFailed, OSError) as error:
            seen = error.detail if isinstance(error, LaunchFailed) else error
            end = _End(None, Cause.START, f"could not be started: {seen}", error)
        else:
            if running is None:
                end = _End(None, detail="it was stopped before it ran")
            else:
                end = await self._attended(running, replace(site, pid=running.pid))
        finally:
            if site is not None:
                probes.close(site)
            self._ready_since = None
            self._running = None
        self._leave(end.detail)
        self._advance(State.GONE, end.detail)
        return end

    def _look_around(self) -> Site:
        """Note what is there before a start."""
        site = Site(
            name=self.spec.name,
            address=self._address,
            ports=self.ports,
            environment=self._what.env,
            cwd=self._what.cwd,
            log=self.log,
            log_begin=logs.end(self.log),
        )
        if self.spec.ready is not None:
            self.spec.ready.prepare(site)
        if self.spec.alive is not None:
            self.spec.alive.probe.prepare(site)
        return site

    async def _launched(self) -> Running | None:
        """Start the process; None if the stop came first."""
        async with tasks() as begin:
            starting, stopping = begin(self._launch(self._what)), begin(self._is_stopping.wait())
            try:
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not starting.done():
                    starting.cancel()
                    await in_spite_of_cancellation(asyncio.wait({starting}))
            return None if starting.cancelled() else starting.result()

    async def _attended(self, running: Running, site: Site) -> _End:
        """Wait for the process to be ready, watch it, and see it to its end."""
        spec = self.spec
        self._running = running
        try:
            async with tasks() as begin:
                over = begin(self._over(running))
                if spec.ready is not None:
                    asking = begin(until_ready(spec.ready, site, spec.ready_timeout_s))
                    await asyncio.wait({over, asking}, return_when=asyncio.FIRST_COMPLETED)
                    if over.done():
                        return await self._ended(running, over.result(), " before it was ready")
                    if seen := asking.result():
                        return await self._was_late(running, seen)
                began = asyncio.get_running_loop().time()
                self._get_ready()
                watching: set[asyncio.Task[Any]] = {over}
                if spec.alive is not None:
                    alive = while_alive(spec.alive.probe, site, spec.alive.policy, self._hear)
                    watching.add(begin(alive))
                await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
                ran_s = asyncio.get_running_loop().time() - began
                if over.done():
                    end = await self._ended(running, over.result(), "")
                else:
                    end = await self._was_ill(running)
                return replace(end, ran_s=ran_s)
        except BaseException:
            # A loop that is torn down, or a mistake of ours: the process does not outlive it.
            await in_spite_of_cancellation(
                self._put_down(running, "nobody looks after it any more")
            )
            raise

    async def _over(self, running: Running) -> Exit | None:
        """Wait for the process's end, or for the wish to stop it, which is None."""
        async with tasks() as begin:
            ended, stopping = begin(running.wait()), begin(self._is_stopping.wait())
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return None if stopping.done() else ended.result()

    def _get_ready(self) -> None:
        self._ready_since = time.time()
        self._advance(State.READY, "it is ready")
        self._was_ready = True
        self._is_settled.set()

    def _hear(self, verdict: Verdict, why: str) -> None:
        """Take note of a verdict of the liveness probe."""
        self._health = why
        if verdict is Verdict.SUSPECT and self._life.state is State.READY:
            self._advance(State.SUSPECT, why)
        elif verdict is Verdict.HEALTHY and self._life.state is State.SUSPECT:
            self._advance(State.READY, why)

    async def _ended(self, running: Running, exit_: Exit | None, when: str) -> _End:
        """See the rest of the tree go, and say what the end means."""
        if exit_ is None:
            report = await self._put_down(running, "it is to stop")
            return _End(report.exit, detail="was stopped")
        self._exit = exit_
        detail = _how(exit_) + when
        self._leave(detail)
        await running.gone()
        if exit_.code == 0 and not when and self.spec.restart is None:
            return _End(exit_, detail="finished")
        cause = Cause.START if when else Cause.CRASH
        return _End(exit_, cause, detail, self._failed(detail, exit_, await self._tail()))

    async def _was_late(self, running: Running, seen: str) -> _End:
        detail = f"was not ready after {self.spec.ready_timeout_s:g} s; its probe last saw: {seen}"
        report = await self._put_down(running, "it was not ready in time")
        error = self._failed(detail, None, await self._tail(), ProcessTimeout)
        return _End(report.exit, Cause.START, detail, error)

    async def _was_ill(self, running: Running) -> _End:
        detail = f"was not alive: {self._health}"
        report = await self._put_down(running, self._health)
        error = self._failed(detail, None, await self._tail())
        return _End(report.exit, Cause.UNHEALTHY, detail, error)

    async def _put_down(self, running: Running, reason: str) -> StopReport:
        """Stop the process and all that it started."""
        self._leave(reason)
        self._is_put_down = True
        self._report = await running.stop(self._grace_s)
        self._exit = self._report.exit
        return self._report

    # --- words -------------------------------------------------------------------------------

    def _failed(
        self,
        detail: str,
        exit_: Exit | None,
        tail: str,
        kind: type[ProcessFailed] = ProcessFailed,
    ) -> ProcessFailed:
        code, signal = (exit_.code, exit_.signal) if exit_ else (None, None)
        return kind(self.spec.name, detail, code, signal, tail)

    async def _tail(self) -> str:
        """Return the last lines that the latest start wrote."""
        if self._log_begin is None:
            return ""
        try:
            read = functools.partial(logs.tail, self.log, since=self._log_begin)
            lines = (await in_thread(read)).splitlines(keepends=True)
        except OSError as error:
            return f"(its log cannot be read: {error})"
        return "".join(line for line in lines if not logs.is_note(line))

    def _begin_life(self, reason: str = "it is not started yet") -> None:
        self._life = Lifecycle(f"{self.spec.name}, start {self._starts + 1}", time.time())
        self._reason = reason

    def _advance(self, state: State, reason: str) -> None:
        self._life.advance(state, reason, time.time())
        self._reason = reason

    def _leave(self, reason: str) -> None:
        if not (self._life.state.is_leaving or self._life.state.is_terminal):
            self._advance(State.STOPPING, reason)

    def _end_for_good(self, reason: str) -> None:
        self._leave(reason)
        if not self._life.state.is_terminal:
            self._advance(State.GONE, reason)
        self._next_start = None
        self._is_gone.set()
        self._is_settled.set()


def _how(exit_: Exit) -> str:
    return f"ended with {exit_}" if exit_.code is not None else f"was {exit_}"
