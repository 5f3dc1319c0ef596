"""One-shot runs, as their asker sees them: a function, a fresh process, a result.

The host starts and ends the process; function and result go straight between it and the asker.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio

from pool.cluster.at_once import at_once
from pool.cluster.interface import Cluster
from pool.dispatch.target import Counter, Target, within_reach
from pool.errors import CallTimeout, MemberLost, RunCancelled
from pool.host.info import HostInfo
from pool.host.run_body import Hook, Work
from pool.host.runs import RunPlan
from pool.planning.environment import check_environment
from pool.planning.resources import as_number

END_TIMEOUT_S = 30.0
"""How long a killed process may take to be gone before it is left to its host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Say what a run gets.

    Args:
        devices: How many of the host's devices: a whole number, or a part of one. None takes all.
        cpus: How many CPUs. None takes as large a part of them as of the devices; without devices,
            one.
        env: Further environment variables, set before your code is loaded.
        runtime_env: Ray's runtime environment. None starts the process fastest.
        before: Functions that are called in the process before yours.
        after: And after it, whatever came of it; `pool.hooks.jax_shutdown` is one.
        references: Whether to leave the result on the node and return Ray's reference to it.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    devices: float | None = None
    cpus: float | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    runtime_env: dict[str, Any] | None = None
    before: tuple[Hook, ...] = ()
    after: tuple[Hook, ...] = ()
    references: bool = False

    def __post_init__(self) -> None:
        for name in ("devices", "cpus"):
            if (value := getattr(self, name)) is not None:
                as_number(value, name)
        check_environment(self.env, "env")


class Spawner(Protocol):
    """Be a pool, as far as runs are concerned."""

    cluster: Cluster

    def spawn(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task until it ends or the pool is closed."""
        ...


class Run:
    """One run that was begun. Get it from `Host.begin_run`.

    Attributes:
        id: A word that tells runs apart.
        host: The host that it runs on.
    """

    def __init__(
        self,
        pool: Spawner,
        host: HostInfo,
        member: Counter,
        work: Work,
        options: RunOptions,
        environment: Mapping[str, str],
    ) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.host = host
        self._cluster = pool.cluster
        self._member = member
        self._work = work
        self._options = options
        self._environment = {**options.env, **environment}
        self._scope = anyio.CancelScope()
        self._result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._result.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._report = ""
        self._grace_s = 0.0
        member.call_began()
        pool.spawn(self._go)

    def __repr__(self) -> str:
        function = self._work.function
        name = getattr(function, "__qualname__", type(function).__name__)
        return f"Run({name} on {self.host.actor.identity.member!r})"

    @property
    def is_done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._result.done()

    async def result(self) -> Any:
        """Wait for what the function returned; with `references`, for Ray's reference to it.

        Raises:
            RunCancelled: It was cancelled, or its pool was closed.
            MemberLost: Its process, its host or its node died.
            ConfigError: The host's bundle does not hold what it needs.
            Exception: What the function, or a hook, raised.

        Cancelling the wait leaves the run as it is.
        """
        return await asyncio.shield(self._result)

    async def cancel(self, grace_s: float = 0.0) -> str:
        """End it, and return what that took, in words, when its process is gone.

        Args:
            grace_s: Seconds in which an async function may end by itself, after it was cancelled.
                A plain function cannot be asked; its process is killed at once.

        Cancelling the wait does not call it off.
        """
        self._grace_s = grace_s
        self._scope.cancel()
        await asyncio.wait([self._result])
        return self._report

    async def _go(self) -> None:
        try:
            with self._scope:
                self._settle(await self._perform())
        except Exception as error:
            self._fail(error)
        finally:
            self._fail(RunCancelled(self.id, self._report))
            self._member.call_ended()

    async def _perform(self) -> Any:
        options, cluster = self._options, self._cluster
        plan = RunPlan(
            key=self.id,
            devices=options.devices,
            cpus=options.cpus,
            variables=self._environment,
            runtime_env=options.runtime_env,
        )
        try:
            with within_reach(Target(self.host.actor, self._member)):
                actor = await cluster.call(self.host.actor, "begin_run", plan)
                frozen = cluster.freeze(self._work)
                perform = cluster.refer if options.references else cluster.call
                return await perform(actor, "perform", frozen)
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    async def _end(self) -> None:
        try:
            self._report = await self._cluster.call(
                self.host.actor,
                "end_run",
                self.id,
                self._grace_s,
                timeout_s=END_TIMEOUT_S + self._grace_s,
            )
        except MemberLost:
            self._report = "its host was dead"
        except CallTimeout:
            self._report = "its host did not answer, and is left to end it"

    def _settle(self, value: Any) -> None:
        if not self._result.done():
            self._result.set_result(value)

    def _fail(self, error: Exception) -> None:
        if not self._result.done():
            self._result.set_exception(error)


async def finish_runs(runs: list[Run], timeout_s: float | None) -> list[Any]:
    """Wait for the results of runs, in their order; whatever breaks the wait ends all of them.

    Raises:
        TimeoutError: It took longer than `timeout_s` seconds.
        Exception: The first error of any run.
    """
    results: list[Any] = [None] * len(runs)

    async def wait(number: int) -> None:
        results[number] = await runs[number].result()

    try:
        # NB: not `fail_after`. What a function raises may be a TimeoutError as well.
        with anyio.move_on_after(timeout_s) as limit:
            await at_once(wait, len(runs))
        late = [run for run in runs if not run.is_done]
    finally:
        with anyio.CancelScope(shield=True):
            await at_once(lambda number: runs[number].cancel(), len(runs))
    if limit.cancelled_caught:
        whose = [*map(repr, late[:1]), *([f"{len(late) - 1} more"] if late[1:] else [])]
        said = " and ".join(whose) or "the runs"
        raise TimeoutError(f"{said} took longer than {timeout_s} s; what went on was ended")
    return results
