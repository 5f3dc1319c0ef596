"""`Host`: a node host of a pool, as its driver sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pool.dispatch.run import Run, RunOptions, Spawner, finish_runs
from pool.dispatch.target import Counter, Target, call
from pool.host.info import HostInfo
from pool.host.run_body import Work


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
