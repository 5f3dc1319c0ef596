"""One-shot runs: a fresh process in the bundle for each, and its part of the bundle with it.

The host starts the process, keeps it alive and ends it; the function itself and its result go
between the process and whoever asked for the run, without a stop at the host. A run whose asker
vanished is ended by the host all the same.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import anyio

from pool.cluster.interface import Actor, Death
from pool.errors import CallTimeout, MemberLost, RunCancelled
from pool.host.allotments import Allotment, Allotments
from pool.host.run_body import AT_WORK, DONE, RunBody
from pool.host.staffing import Staffing
from pool.planning.portion import portion

CLAIM_S = 60.0
"""A process that is ready and given nothing to do for so long is ended."""
LINGER_S = 10.0
"""So long may a result be on its way to whoever asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Say what a run needs.

    Args:
        key: Tells runs apart.
        devices: How many of the bundle's devices; None takes all.
        cpus: How many CPUs; None takes the same part of them as of the devices.
        variables: Further environment variables.
        runtime_env: Ray's runtime environment.
    """

    key: str
    devices: float | None = None
    cpus: float | None = None
    variables: dict[str, str] = field(default_factory=dict)
    runtime_env: dict[str, Any] | None = None


@dataclass(eq=False)
class _Run:
    actor: Actor
    allotment: Allotment
    admission: AbstractContextManager[None]
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    state: str = ""
    is_heard_of: bool = False
    ending: asyncio.TimerHandle | None = None


class Runs:
    """Keep the runs of one host.

    Args:
        staffing: Describes workers.
        allotments: Who holds what of the bundle.
    """

    def __init__(self, staffing: Staffing, allotments: Allotments) -> None:
        self._staffing = staffing
        self._cluster = staffing.context.cluster
        self._allotments = allotments
        self._runs: dict[str, _Run] = {}
        self._waiting: dict[str, anyio.CancelScope] = {}
        self._caring: set[asyncio.Task[None]] = set()
        self._count = 0
        self._renewing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._runs)

    async def begin(self, plan: RunPlan, admission: AbstractContextManager[None]) -> Actor:
        """Wait for a part of the bundle, and initiate the start of a process in it.

        Args:
            plan: What the run needs.
            admission: Is entered for as long as the process lives.

        Raises:
            ConfigError: The bundle does not hold what the run needs.

        Cancelling it starts nothing.
        """
        place, staffing = self._staffing.place, self._staffing
        amount = portion(place.bundle, staffing.plan.device, plan.devices, plan.cpus)
        with anyio.CancelScope() as waiting:
            self._waiting[plan.key] = waiting
            try:
                allotment = await self._allotments.take(amount, f"run {plan.key}")
            finally:
                del self._waiting[plan.key]
        if waiting.cancelled_caught:
            raise RunCancelled(plan.key, "it was waiting for its part of the bundle")
        try:
            self._count += 1
            identity = staffing.identity("run", self._count)
            spec = staffing.worker(
                RunBody,
                identity,
                allotment,
                variables=plan.variables,
                runtime_env=plan.runtime_env,
                label="Run",
            )
            # A cancellation here would leave an actor that nobody knows of.
            with anyio.CancelScope(shield=True):
                actor = await self._cluster.start(spec)
        except BaseException:
            self._allotments.give(allotment)
            raise
        admission.__enter__()
        run = self._runs[plan.key] = _Run(actor, allotment, admission)
        self._spawn(self._care(plan.key, run))
        self._spawn(self._open(run))
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_forever())
        return actor

    async def end(self, key: str, grace_s: float = 0.0) -> str:
        """End a run's process, and return when it is gone, with what that took, in words.

        Args:
            key: Which run.
            grace_s: Seconds in which it may end by itself, after it was asked to.
        """
        if key in self._waiting:
            self._waiting[key].cancel()
            return "it was waiting for its part of the bundle"
        run = self._runs.get(key)
        if run is None:
            return "its process was gone"
        state = run.state or "it was starting"
        if grace_s > 0 and state == AT_WORK and await self._ask(run, grace_s):
            state = f"{AT_WORK}, and ended when it was asked to"
        elif state == AT_WORK:
            state = f"{AT_WORK}, and was killed"
        self._cluster.kill(run.actor)
        await run.gone.wait()
        return state

    async def _ask(self, run: _Run, grace_s: float) -> bool:
        """Ask a run to end, and return whether it did."""
        try:
            return bool(await self._cluster.call(run.actor, "stop", timeout_s=grace_s))
        except (CallTimeout, MemberLost):
            return False

    async def close(self) -> None:
        """End every run at once, and return when all are gone."""
        async with anyio.create_task_group() as tasks:
            for key in [*self._waiting, *self._runs]:
                tasks.start_soon(self.end, key)
        if self._renewing is not None:
            self._renewing.cancel()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._caring.add(task)
        task.add_done_callback(self._caring.discard)

    async def _open(self, run: _Run) -> None:
        """Let the process make its environment, and begin to wait for its work."""
        try:
            await self._cluster.call(run.actor, "start")
        except Exception as error:
            # Whoever asked for the run is told so in place of its result.
            run.state = f"its start failed: {error}"
        if not run.is_heard_of:
            self._end_later(run, CLAIM_S)

    async def _care(self, key: str, run: _Run) -> None:
        seen = 0
        try:
            while not isinstance(news := await self._cluster.lifeline(run.actor, seen), Death):
                seen, run.state, run.is_heard_of = news.version, news.trouble, True
                self._end_later(run, LINGER_S if run.state == DONE else None)
        finally:
            self._end_later(run, None)
            del self._runs[key]
            self._allotments.give(run.allotment)
            run.admission.__exit__(None, None, None)
            run.gone.set()

    def _end_later(self, run: _Run, delay_s: float | None) -> None:
        """End a process after a while, unless it is heard of before; None lets it be."""
        if run.ending is not None:
            run.ending.cancel()
        loop = asyncio.get_running_loop()
        run.ending = (
            None if delay_s is None else loop.call_later(delay_s, self._cluster.kill, run.actor)
        )

    async def _renew_forever(self) -> None:
        """Let them hear from their host, whose own lease they cannot outlive by much."""
        while True:
            self._cluster.renew([run.actor for run in self._runs.values()], self._staffing.lease)
            await asyncio.sleep(self._staffing.plan.policies.health.period_s)
