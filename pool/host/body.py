"""The body of a node host's actor: the user's `NodeHost`, and what the pool needs around it.

It takes calls, leases ports, asks the node's notice sources, keeps the workers of its bundle, and
tells its owner. The user's object knows of all that only what it asks for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from pool.cluster.at_once import at_once
from pool.cluster.body import Context
from pool.cluster.interface import Actor
from pool.errors import PoolError
from pool.host.allotments import Allotments
from pool.host.crew import Crew
from pool.host.info import HostInfo, RankInfo
from pool.host.plan import HostPlace, HostPlan
from pool.host.ports import PortLeases
from pool.host.runs import RunPlan, Runs
from pool.host.staffing import Staffing
from pool.host.workplace import Workplace, finish
from pool.planning.environment import visible_devices

if TYPE_CHECKING:
    from pool.host.processes import Processes
    from pool.host.ranks import LocalRanks, RankSpec
    from pool.process.managed import ProcessStatus
    from pool.process.spec import Process


class HostBody(Workplace):
    """Run a user's node host inside an actor.

    Args:
        plan: What the hosts of the replica are.
        place: Which one it is.
    """

    def __init__(self, plan: HostPlan, place: HostPlace) -> None:
        super().__init__()
        host = plan.host_class(*plan.host_args)
        host.index, host.hosts, host.bundle = place.index, place.hosts, place.bundle
        self.subject = host
        self._plan = plan
        self._place = place
        self._tasks: set[asyncio.Task[None]] = set()
        self._ports = PortLeases(plan.ports)
        self._leased: dict[str, list[int]] = {}
        self._leasing = asyncio.Lock()
        self._ranks: LocalRanks | None = None
        self._kept: Processes | None = None

    # -- what the manager calls (see pool.cluster.body.Body) ------------------------------------

    async def start(self, context: Context) -> Any:
        return await self.open_host(context)

    async def open_host(self, context: Context) -> HostInfo:
        """Bring the host up, with the processes that it is made with."""
        self._context = self.subject.context = context
        ids = self._devices_of(context) if self._plan.knows_devices else None
        self._staffing = Staffing(self._plan, self._place, context)
        self._allotments = Allotments(self._place.bundle, ids)
        self._crew = Crew(self._staffing)
        self._runs = Runs(self._staffing, self._crew, self._allotments)
        self.subject.desk = self
        if self._plan.cleaner is not None:
            await self._plan.cleaner.clean()
        extra = await finish(self.subject.start())
        processes = await self.start_processes(self._plan.processes, {})
        if self._plan.notices:
            from pool.notices.watch import NodeWatch  # All sources, which cost who asks none.

            where = (context.node_id, context.address)
            publish = self.bulletin.publish
            watch = NodeWatch(self._plan.notices, *where, publish, context.node_name)
            self._spawn(watch.run())
        return HostInfo(
            index=self._place.index,
            hosts=self._place.hosts,
            node_id=context.node_id,
            address=context.address,
            pid=os.getpid(),
            bundle=self._place.bundle,
            actor=Actor("", context.identity),  # The owner, who has the handle, fills it in.
            extra=extra,
            processes=processes,
            devices=ids or {},
        )

    def _devices_of(self, context: Context) -> Mapping[str, tuple[str, ...]]:
        """Return the ids of the devices that this host gives to its workers."""
        if not self._plan.lent:
            return context.devices
        lent = self._plan.lent[self._place.index]
        # Ray has not given them to this process, and so hides them from it.
        context.environ.update(visible_devices(lent))
        return lent

    async def drain(self, budget_s: float) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(super().drain, budget_s)
            if self._ranks is not None:
                tasks.start_soon(self._ranks.drain, budget_s)

    async def restore(self) -> None:
        await super().restore()
        if self._ranks is not None:
            await self._ranks.restore()

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        self.close()
        for task in self._tasks:
            task.cancel()
        troubles: list[str] = []
        until = anyio.current_time() + budget_s
        try:
            # Rank actors and runs go first: the hook may put down what they stand on.
            if self._ranks is not None:
                troubles += await self._ranks.shutdown(budget_s)
            await self._runs.close()
            grace_s = 0.0 if self._kept is None else self._kept.grace_s
            with anyio.fail_after(until - anyio.current_time() - grace_s):
                await finish(self.subject.shutdown())
        finally:
            # Processes go last: the hook may want to speak to them.
            with anyio.CancelScope(shield=True):
                if self._kept is not None:
                    troubles += await self._kept.close(until - anyio.current_time())
                await self._crew.close()
            self._ports.close()
        return troubles

    # -- workers --------------------------------------------------------------------------------

    async def begin_run(self, plan: RunPlan) -> Actor:
        """Wait for a part of the bundle, and start a fresh process in it, for one run.

        Raises:
            ConfigError: The bundle does not hold what the run needs.
            NotAdmitted: The member is being drained.
        """
        with self.admit():
            return await self._runs.begin(plan, self.admit())

    async def end_run(self, key: str, grace_s: float = 0.0) -> str:
        """End a run's process, and return when it is gone, with what that took, in words."""
        return await self._runs.end(key, grace_s)

    @property
    def processes(self) -> Processes:
        """The managed processes of this host.

        Raises:
            PoolError: The host is simulated.
        """
        if not self.context.has_process:
            raise PoolError(
                "processes are not simulated; in a simulation, override what starts them in your "
                "NodeHost, or leave them out of the pool"
            )
        if self._kept is None:
            from pool.host.processes import Processes  # What it stands on costs who has none.

            self._kept = Processes(
                self._staffing, self._crew, self._allotments, self._ports, self.bulletin.fail
            )
        return self._kept

    async def start_process(
        self, spec: Process, environment: Mapping[str, str], essential: bool
    ) -> ProcessStatus:
        """Start a managed process, and return when it is ready.

        Raises:
            NotAdmitted: The member is being drained.
            PoolError: It did not get ready.
        """
        with self.admit():
            return await self.processes.start(spec, environment, essential=essential)

    async def start_processes(
        self, specs: Sequence[Process], environment: Mapping[str, str]
    ) -> tuple[ProcessStatus, ...]:
        """Start the processes that the host is made with, all at once; it is lost with any."""
        started: list[Any] = [None] * len(specs)

        async def start(number: int) -> None:
            started[number] = await self.start_process(specs[number], environment, essential=True)

        await at_once(start, len(specs))
        return tuple(started)

    async def about_process(self, question: str, *args: Any) -> Any:
        """Ask something about the processes of this host: the name of a method of `Processes`."""
        return await finish(getattr(self.processes, question)(*args))

    async def bring_up_ranks(self, spec: RankSpec) -> tuple[RankInfo, ...]:
        """Start the processes of the rank actors, and return where they are, by local rank."""
        from pool.host.ranks import LocalRanks  # The manager below it costs whoever has no ranks.

        self._ranks = LocalRanks(self._staffing, spec, self._allotments, self.bulletin.fail)
        return await self._ranks.bring_up()

    async def begin_ranks(
        self, frozen: bytes, environments: Sequence[dict[str, str]], first: int
    ) -> tuple[RankInfo, ...]:
        """Make the user's objects in them, each in its environment, by local rank."""
        assert self._ranks is not None
        return await self._ranks.begin(frozen, environments, first)

    # -- ports ----------------------------------------------------------------------------------

    async def lease_port(self, holder: str = "") -> int:
        """Lease a port of this node until it is given back, or the host ends.

        Args:
            holder: A word for whom it is, by which `release_ports` knows it.

        Raises:
            PoolError: No port of the node is free.
        """
        # In turn, so that whoever gives back what it leased counts a lease that was asked before.
        async with self._leasing:
            port = await anyio.to_thread.run_sync(self._ports.lease)
            self._leased.setdefault(holder, []).append(port)
            return port

    async def release_port(self, port: int) -> None:
        """Give a leased port back."""
        for ports in self._leased.values():
            if port in ports:
                ports.remove(port)
        self._ports.release(port)

    async def release_ports(self, holder: str, after_calls: bool = False) -> None:
        """Give every port of a holder back.

        Args:
            holder: Whose ports; the word that they were leased with.
            after_calls: Keep them until the calls that are under way now are over.
        """
        async with self._leasing:
            ports = self._leased.pop(holder, [])
        if ports:
            self._spawn(self._give_back(ports, self.calls if after_calls else ()))

    async def _give_back(
        self, ports: Sequence[int], after: Collection[asyncio.Future[None]]
    ) -> None:
        await self.until_done(after)
        for port in ports:
            self._ports.release(port)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
