"""One-shot runs: a fresh process in the bundle for each, and its part of the bundle with it.

The host starts the process, keeps it alive and ends it; the function itself and its result go
between the process and whoever asked for the run, without a stop at the host. A run whose asker
vanished is ended by the host all the same.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import anyio

from pool.cluster.interface import Actor, News
from pool.errors import CallTimeout, MemberLost, RunCancelled
from pool.host.allotments import Allotment, Allotments
from pool.host.crew import Crew, Hand
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
    hand: Hand
    state: str = ""
    is_heard_of: bool = False
    ending: asyncio.TimerHandle | None = None


class Runs:
    """Keep the runs of one host.

    Args:
        staffing: Describes workers.
        crew: Keeps their actors.
        allotments: Who holds what of the bundle.
    """

    def __init__(self, staffing: Staffing, crew: Crew, allotments: Allotments) -> None:
        self._staffing = staffing
        self._crew = crew
        self._cluster = staffing.context.cluster
        self._allotments = allotments
        self._waiting: dict[str, anyio.CancelScope] = {}
        self._runs: dict[str, _Run] = {}

    async def begin(self, plan: RunPlan, admission: AbstractContextManager[None]) -> Actor:
        """Wait for a part of the bundle, and initiate the start of a process in it.

        Args:
            plan: What the run needs.
            admission: Is entered for as long as the process lives.

        Raises:
            ConfigError: The bundle does not hold what the run needs.
            NotAdmitted: The host was told to take no new work, perhaps while the run waited.
            RunCancelled: It was ended meanwhile.

        Cancelling it starts nothing.
        """
        place, staffing = self._staffing.place, self._staffing
        amount = portion(place.bundle, staffing.plan.device, plan.devices, plan.cpus)
        allotment: Allotment | None = None
        with anyio.CancelScope() as waiting:
            self._waiting[plan.key] = waiting
            try:
                allotment = await self._allotments.take(amount, f"run {plan.key}")
            finally:
                del self._waiting[plan.key]
        if allotment is None:
            raise RunCancelled(plan.key, "it was waiting for its part of the bundle")
        spec = staffing.worker(
            RunBody,
            staffing.identity("run", self._crew.next_number()),
            allotment,
            variables=plan.variables,
            runtime_env=plan.runtime_env,
            label="Run",
        )
        with ExitStack() as stack:
            stack.callback(self._allotments.give, allotment)
            stack.enter_context(admission)
            run = _Run(await self._crew.hire(spec, lambda news: self._hear(run, news)))
            held = stack.pop_all()
        self._runs[plan.key] = run
        self._crew.spawn(self._open(run))
        self._crew.spawn(self._see_off(plan, run, held))
        return run.hand.actor

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
        await self._crew.dismiss(run.hand)
        return state

    async def _ask(self, run: _Run, grace_s: float) -> bool:
        """Ask a run to end, and return whether it did."""
        try:
            return bool(await self._cluster.call(run.hand.actor, "stop", timeout_s=grace_s))
        except (CallTimeout, MemberLost):
            return False

    async def close(self) -> None:
        """End every run at once, and return when all are gone."""
        async with anyio.create_task_group() as tasks:
            for key in [*self._waiting, *self._runs]:
                tasks.start_soon(self.end, key)

    async def _open(self, run: _Run) -> None:
        """Let the process make its environment, and begin to wait for its work."""
        try:
            await self._cluster.call(run.hand.actor, "start")
        except Exception as error:
            # Whoever asked for the run is told so in place of its result.
            run.state = f"its start failed: {error}"
        if not run.is_heard_of:
            self._end_later(run, CLAIM_S)

    def _hear(self, run: _Run, news: News) -> None:
        run.state, run.is_heard_of = news.trouble, True
        self._end_later(run, LINGER_S if run.state == DONE else None)

    async def _see_off(self, plan: RunPlan, run: _Run, held: ExitStack) -> None:
        await run.hand.gone()
        self._end_later(run, None)
        del self._runs[plan.key]
        held.close()
        if plan.runtime_env is None:
            # Where there was one run, there is often another.
            await self._cluster.prestart([self._staffing.context.node_id])

    def _end_later(self, run: _Run, delay_s: float | None) -> None:
        """End a process after a while, unless it is heard of before; None lets it be."""
        if run.ending is not None:
            run.ending.cancel()
        run.ending = None
        if delay_s is not None and run.hand.death is None:
            loop = asyncio.get_running_loop()
            run.ending = loop.call_later(delay_s, self._cluster.kill, run.hand.actor)
