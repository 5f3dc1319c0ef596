"""`Host`: a node host of a pool, as its driver sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio

from pool.dispatch.run import Run, RunOptions, Spawner, finish_runs
from pool.dispatch.target import Counter, Target, call
from pool.errors import PoolError
from pool.host.info import HostInfo
from pool.host.run_body import Work
from pool.process.spec import Process
from pool.replica.process import ManagedProcess

CANCEL_TIMEOUT_S = 30.0
"""How long a cancelled start waits for the process to be gone; then it leaves that to the host."""


class Host:
    """Give work to one node host. Get it from `ReplicaPool.hosts` or `ReplicaPool.host`.

    It stands for one incarnation: when the host is lost, its calls raise `MemberLost`.

    Attributes:
        info: Where it runs.
    """

    def __init__(self, pool: Spawner, member: Counter, info: HostInfo) -> None:
        self.info = info
        self._pool = pool
        self._member = member

    def __repr__(self) -> str:
        return f"Host({self.info.actor.identity.member!r}, node={self.info.node_id[:8]!r})"

    async def call(self, work: Callable[..., Any] | str, *args: Any) -> Any:
        """Call a function in the host's own process, or a method of your `NodeHost` by name.

        Raises:
            MemberLost: The host is dead, or died meanwhile.
            NotAdmitted: It is being drained.
            Exception: What the function raised.

        A cancelled call runs to its end there.
        """
        target = Target(self.info.actor, self._member, f"host {self.info.index}: ")
        return await call(self._pool.cluster, target, work, args)

    def begin_run(
        self,
        function: Callable[..., Any],
        *args: Any,
        options: RunOptions | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """Begin a run: call a function in a fresh process in the host's bundle, with its devices.

        It waits for its part of the bundle behind the runs before it.

        Args:
            function: What to call, plain or async.
            *args: Its arguments.
            options: What the run gets; all devices of the host when left out.
            environment: Variables of a rendezvous, beyond those of the options.

        Returns:
            The run: wait for its result, or cancel it.
        """
        options = RunOptions() if options is None else options
        work = Work(function=function, args=args, before=options.before, after=options.after)
        return Run(self._pool, self.info, self._member, work, options, environment or {})

    async def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        options: RunOptions | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Call a function in a fresh process in the host's bundle, and return its result.

        Args:
            function: What to call, plain or async.
            *args: Its arguments.
            options: What the run gets.
            timeout_s: Seconds for all of it, the wait for devices included; None waits for ever.

        Raises:
            TimeoutError: It took longer. The process was killed.
            MemberLost: The process, the host or its node died.
            ConfigError: The host's bundle does not hold what the run needs.
            NotAdmitted: The host is being drained.
            Exception: What the function, or a hook, raised.

        Cancelling it kills the process, and goes on when that is gone.
        """
        run = self.begin_run(function, *args, options=options)
        [result] = await finish_runs([run], timeout_s)
        return result

    async def start_process(
        self,
        process: Process,
        *,
        environment: Mapping[str, str] | None = None,
        essential: bool = False,
    ) -> ManagedProcess:
        """Start a process on the host's node, with devices of its bundle, and wait until ready.

        It is kept for as long as the host is, and is gone with it, with all that it started.
        Processes that every host of a pool is to have are better given to the pool.

        Args:
            process: What it is.
            environment: Variables of a rendezvous.
            essential: Whether the host is lost with it, when it ends for good without having been
                asked to.

        Raises:
            LaunchFailed, ProcessFailed, ProcessTimeout: It did not get ready.
            ConfigError: The host has not what it needs, or a process of its name is there.
            NotAdmitted: The host is being drained.
            MemberLost: The host is dead, or died meanwhile.

        Cancelling it stops the process.
        """
        cluster, actor = self._pool.cluster, self.info.actor
        self._member.call_began()
        try:
            status = await cluster.call(
                actor, "start_process", process, dict(environment or {}), essential
            )
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), suppress(PoolError):
                await cluster.call(
                    actor, "about_process", "stop", process.name, None, timeout_s=CANCEL_TIMEOUT_S
                )
            raise
        finally:
            self._member.call_ended()
        return ManagedProcess(cluster, self.info, status)

    async def processes(self) -> list[ManagedProcess]:
        """List the processes of the host, also those that are gone, by name."""
        statuses = await self._pool.cluster.call(self.info.actor, "about_process", "statuses")
        return [ManagedProcess(self._pool.cluster, self.info, status) for status in statuses]

    async def process(self, name: str) -> ManagedProcess:
        """Return the process of this name.

        Raises:
            ConfigError: None was started; the error says which were.
        """
        status = await self._pool.cluster.call(self.info.actor, "about_process", "status", name)
        return ManagedProcess(self._pool.cluster, self.info, status)
