"""The managed processes of one host: their devices, ports, environment and logs.

What a process is, and how it is kept running, is `pool.process`'s. Here it gets its part of the
host: ids of devices, which only an actor can hold, and ports of the node, for as long as it lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from pool.cluster.interface import Fault
from pool.errors import ConfigError
from pool.host.allotments import Allotments
from pool.host.crew import Crew, Hand
from pool.host.device_memory import wait_free
from pool.host.holder import HolderBody
from pool.host.ports import PortLeases
from pool.host.staffing import Staffing
from pool.planning.environment import thread_defaults, visible_devices
from pool.planning.portion import portion
from pool.planning.resources import CPU, GPU, Resources
from pool.planning.restart import Cause
from pool.process import logs, marker
from pool.process.exits import Exit, StopReport
from pool.process.logs import Cursor
from pool.process.managed import ManagedProcess, ProcessStatus
from pool.process.spec import Process

STOP_MARGIN_S = 2.0
"""What stopping a process takes beyond its grace."""


class Processes:
    """Keep the managed processes of one host.

    Args:
        staffing: Describes workers.
        crew: Keeps the actors that hold devices.
        allotments: Who holds what of the bundle.
        ports: The ports of the node.
        on_failed: Is told why this host is lost with one of them.
    """

    def __init__(
        self,
        staffing: Staffing,
        crew: Crew,
        allotments: Allotments,
        ports: PortLeases,
        on_failed: Callable[[Fault], None],
    ) -> None:
        self._staffing = staffing
        self._context = staffing.context
        self._crew = crew
        self._allotments = allotments
        self._ports = ports
        self._on_failed = on_failed
        self._processes: dict[str, ManagedProcess] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_swept = False

    async def start(
        self, spec: Process, environment: Mapping[str, str], *, essential: bool
    ) -> ProcessStatus:
        """Start a process, and return when it is ready.

        Args:
            spec: What it is.
            environment: Variables of a rendezvous.
            essential: Whether the host is lost with it, when it ends for good unasked.

        Raises:
            ConfigError: A process of this name is there, or the host has not what it needs.
            LaunchFailed, ProcessFailed, ProcessTimeout: It did not get ready.

        Cancelling it stops the process first, and leaves nothing.
        """
        if not self._is_swept:
            # Whoever was killed together with what was to end it may still hold what we are given.
            self._is_swept = True
            await anyio.to_thread.run_sync(marker.sweep)
        name = spec.name
        if name in self._tasks:
            raise ConfigError(
                f"a process {name!r} is on this host already; give another name, or stop it", "name"
            )
        self._processes.pop(name, None)  # One that is gone, and may be shown until now.
        started: asyncio.Future[ProcessStatus] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._live(spec, environment, essential, started))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))
        try:
            return await asyncio.shield(started)
        except asyncio.CancelledError:
            await self._abandon(task)
            raise

    async def _abandon(self, task: asyncio.Task[None]) -> None:
        """Stop a process that may not be ready yet, and wait until it is gone."""
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])

    async def _live(
        self,
        spec: Process,
        environment: Mapping[str, str],
        essential: bool,
        started: asyncio.Future[ProcessStatus],
    ) -> None:
        """Give a process what it needs, for as long as it lives."""

        def fail(cause: Cause, detail: str) -> None:
            if essential:
                self._on_failed(Fault(cause, detail))

        try:
            async with AsyncExitStack() as stack:
                ports = await self._lease(spec.ports, stack)
                devices, cpus, holder = await stack.enter_async_context(self._devices(spec))
                process = ManagedProcess(
                    spec,
                    environment={
                        **self._context.environ,
                        **thread_defaults(cpus),
                        **visible_devices(devices),
                        **environment,
                    },
                    ports=ports,
                    address=self._context.address,
                    log=self._log(spec.name),
                    identity=f"{self._context.identity.member}/{spec.name}",
                    on_failed=fail,
                )
                self._processes[spec.name] = process
                stack.push_async_callback(process.stop)
                if holder is not None:
                    self._crew.spawn(self._end_with(holder, process))
                await process.start()
                started.set_result(process.status())
                await process.wait()
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
                started.exception()  # Whoever gave up waiting does not look at it.
            elif isinstance(error, Exception):
                fail(Cause.CRASH, f"process {spec.name!r}: {error}")
            if not isinstance(error, Exception):
                raise

    async def _lease(self, names: Sequence[str], stack: AsyncExitStack) -> dict[str, int]:
        leased: dict[str, int] = {}
        for name in names:
            leased[name] = port = await anyio.to_thread.run_sync(self._ports.lease)
            stack.callback(self._ports.release, port)
        return leased

    @asynccontextmanager
    async def _devices(
        self, spec: Process
    ) -> AsyncIterator[tuple[Mapping[str, tuple[str, ...]], float, Hand | None]]:
        """Hold the devices of a process; yield their ids, the CPUs that go with them, the holder.

        The holder is the actor without which they are not held; None if there is none but us.
        """
        staffing = self._staffing
        bundle, device = staffing.place.bundle, staffing.plan.device
        share = portion(bundle, device, spec.devices)
        wanted = Resources.from_units({device: share.units(device)})
        cpus = share.get(CPU, 0)
        if not wanted:
            yield {}, cpus, None
            return
        allotment = await self._allotments.take(wanted, f"process {spec.name!r}")
        try:
            if staffing.plan.knows_devices:
                ids: Mapping[str, tuple[str, ...]] = allotment.ids
                if not staffing.plan.shares_devices:
                    await wait_free(ids.get(GPU, ()), staffing.memory_limit_s)
                yield ids, cpus, None
                return
            identity = staffing.identity("holder", self._crew.next_number())
            hand = await self._crew.hire(
                staffing.worker(HolderBody, identity, allotment, variables={}, label="Holder")
            )
            try:
                yield await self._context.cluster.call(hand.actor, "start"), cpus, hand
            finally:
                with anyio.CancelScope(shield=True):
                    await self._crew.dismiss(hand)
        finally:
            self._allotments.give(allotment)

    async def _end_with(self, holder: Hand, process: ManagedProcess) -> None:
        """Stop a process whose devices are not held any more, and give the host up (INV-12).

        The next to whom Ray gives them may be here already; and a holder dies with its group.
        """
        fault = await holder.gone()
        if not process.status().state.is_terminal:
            why = f"the actor that held the devices of process {process.spec.name!r} died"
            self._on_failed(Fault(fault.cause, f"{why}: {fault.detail}"))
            await process.stop()

    def _log(self, name: str) -> Path:
        """Return a log's path: that of the slot, so that generations follow each other in it."""
        identity = self._context.identity
        pool, _, member = identity.pool.rpartition("/")
        folder = f"{pool}-{identity.instance}"
        slot, host = member.partition(".")[0], f"host-{identity.slot}"
        return self._context.log_root / folder / f"slot-{slot}" / host / f"{name}.log"

    # -- what is asked of a process that is there ------------------------------------------------

    def statuses(self) -> tuple[ProcessStatus, ...]:
        """Show every process that was started here, also those that are gone, by name."""
        return tuple(self._processes[name].status() for name in sorted(self._processes))

    def status(self, name: str) -> ProcessStatus:
        """Show one process."""
        return self._find(name).status()

    async def wait(self, name: str) -> Exit | None:
        """Wait until a process is gone for good, with what it held, and return how it ended."""
        exit_ = await self._find(name).wait()
        if (task := self._tasks.get(name)) is not None:
            await asyncio.wait([task])
        return exit_

    async def stop(self, name: str, grace_s: float | None) -> StopReport:
        """Stop a process and all that it started; return when it is gone, with what it held."""
        report = await self._find(name).stop(grace_s)
        await self.wait(name)
        return report

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process."""
        self._find(name).signal(number)

    async def end_of_log(self, name: str) -> Cursor:
        """Return the place after all that is in a process's log by now."""
        path = self._find(name).log
        return await anyio.to_thread.run_sync(lambda: logs.end(path))

    async def read_log(
        self, name: str, cursor: Cursor | None, max_bytes: int
    ) -> tuple[str, Cursor]:
        """Read the next lines of a process's log."""
        path = self._find(name).log
        return await anyio.to_thread.run_sync(lambda: logs.read(path, cursor, max_bytes=max_bytes))

    async def tail_log(self, name: str, lines: int) -> str:
        """Return the last lines of a process's log."""
        path = self._find(name).log
        return await anyio.to_thread.run_sync(lambda: logs.tail(path, lines=lines))

    async def tail_and_end_of_log(self, name: str, lines: int) -> tuple[str, Cursor]:
        """Return the last lines of a process's log, and the place right after them."""
        path = self._find(name).log
        return await anyio.to_thread.run_sync(lambda: logs.tail_and_end(path, lines=lines))

    @property
    def grace_s(self) -> float:
        """How long stopping all of them may take."""
        live = [each for name, each in self._processes.items() if name in self._tasks]
        return max((each.spec.grace_s + STOP_MARGIN_S for each in live), default=0.0)

    async def close(self, budget_s: float) -> list[str]:
        """Stop every process at once, within `budget_s` seconds; return what went wrong."""
        troubles: list[str] = []

        async def stop(name: str, task: asyncio.Task[None]) -> None:
            process = self._processes.get(name)
            if process is None or process.status().state.is_coming:
                await self._abandon(task)
                return
            grace_s = min(process.spec.grace_s, max(0.0, budget_s - STOP_MARGIN_S))
            report = await process.stop(grace_s)
            if report.rung == "killed":
                what = f"{report.killed} of its tree had to be killed after {grace_s:g} s"
                troubles.append(f"process {name!r}: {what}")
            await asyncio.wait([task])

        async with anyio.create_task_group() as tasks:
            for name, task in list(self._tasks.items()):
                tasks.start_soon(stop, name, task)
        return troubles

    def _find(self, name: str) -> ManagedProcess:
        if name not in self._processes:
            there = ", ".join(map(repr, sorted(self._processes))) or "none"
            raise ConfigError(f"no process {name!r} was started on this host; there are {there}")
        return self._processes[name]
