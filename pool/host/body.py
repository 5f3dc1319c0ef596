"""The body of a node host's actor: the user's `NodeHost`, and what the pool needs around it.

It counts and bounds the work in flight, runs functions, leases ports, asks the node's notice
sources and tells its owner. The user's object knows nothing of all that.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.to_thread

from pool.cluster.body import Bulletin, Context
from pool.cluster.interface import Actor, News
from pool.errors import NotAdmitted
from pool.host.info import HostInfo
from pool.host.node_host import NodeHost
from pool.host.ports import PortLeases
from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice
from pool.planning.resources import Resources

_log = logging.getLogger("pool")


@dataclass(frozen=True, slots=True)
class HostPlace:
    """Say which host of which replica a node host is."""

    index: int
    hosts: int
    bundle: Resources


class HostBody:
    """Run a user's node host inside an actor.

    Args:
        host_class: The user's class.
        host_args: Its constructor's arguments.
        place: Which host it is.
        notices: The sources to ask on this node.
    """

    def __init__(
        self,
        host_class: type[NodeHost],
        host_args: tuple[Any, ...],
        place: HostPlace,
        notices: Sequence[NodeNoticeSource],
    ) -> None:
        host = host_class(*host_args)
        host.index, host.hosts, host.bundle = place.index, place.hosts, place.bundle
        self._host = host
        self._place = place
        self._sources = tuple(notices)
        self._bulletin = Bulletin()
        self._told: dict[str, Notice] = {}
        self._asking: list[asyncio.Task[None]] = []
        self._ports = PortLeases()
        self._admits = True
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._environment = asyncio.Lock()

    # -- what the manager calls (see pool.cluster.body.Body) ------------------------------------

    async def start(self, context: Context) -> HostInfo:
        self._host.context = context
        extra = await _finish(self._host.start())
        self._asking = [
            asyncio.create_task(self._ask_forever(source, context)) for source in self._sources
        ]
        return HostInfo(
            index=self._place.index,
            hosts=self._place.hosts,
            node_id=context.node_id,
            address=context.address,
            pid=os.getpid(),
            bundle=self._place.bundle,
            actor=Actor("", context.identity),  # The owner, who has the handle, fills it in.
            extra=extra,
        )

    async def check_health(self) -> None:
        await _finish(self._host.check_health())

    async def lifeline(self, seen: int) -> News:
        return await self._bulletin.after(seen)

    async def drain(self, budget_s: float) -> None:
        self._admits = False
        with anyio.move_on_after(budget_s):
            while self._in_flight:
                self._idle.clear()
                await self._idle.wait()

    async def restore(self) -> None:
        self._admits = True

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        self._admits = False
        for task in self._asking:
            task.cancel()
        try:
            with anyio.fail_after(budget_s):
                await _finish(self._host.shutdown())
        finally:
            self._ports.close()
        return ()

    # -- what drivers call ----------------------------------------------------------------------

    async def execute(
        self,
        work: Callable[..., Any] | str,
        args: tuple[Any, ...],
        environment: Mapping[str, str] | None = None,
    ) -> Any:
        """Call a function, or the host's own method of that name, and return its result.

        A plain function runs in a thread, an async one on the main loop. With an environment,
        the variables are set for the length of the call, and such calls run one after the other.

        Raises:
            NotAdmitted: The host is being drained.
        """
        function = getattr(self._host, work) if isinstance(work, str) else work
        with self._admit():
            if environment is None:
                return await _run(function, args)
            async with self._environment:
                with _set_environment(environment):
                    return await _run(function, args)

    async def lease_port(self) -> int:
        """Lease a port of this node until `release_port` or the host's end."""
        return await anyio.to_thread.run_sync(self._ports.lease)

    async def release_port(self, port: int) -> None:
        """Give a leased port back."""
        self._ports.release(port)

    @contextmanager
    def _admit(self) -> Iterator[None]:
        if not self._admits:
            raise NotAdmitted(f"{self._host.context.identity.member} takes no new work")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _ask_forever(self, source: NodeNoticeSource, context: Context) -> None:
        trouble = ""
        while True:
            try:
                notice = await source.check(context.node_id, context.address)
            except Exception as error:
                # `SourceUnavailable`, or a fault in the source itself: no verdict (INV-9), what was
                # told stays told. Said once for each trouble.
                if str(error) != trouble:
                    trouble = str(error)
                    _log.warning("source %s could not be asked: %s", source.name, trouble)
            else:
                trouble = ""
                if notice is None:
                    self._told.pop(source.name, None)
                else:
                    self._told[source.name] = replace(notice, node_id=context.node_id)
                self._bulletin.publish(tuple(self._told.values()))
            await asyncio.sleep(source.period_s)


async def _run(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    return await _finish(
        await anyio.to_thread.run_sync(functools.partial(function, *args), abandon_on_cancel=True)
    )


async def _finish(result: Any) -> Any:
    """Await what a plain-or-async method returned, if it is awaitable."""
    return await result if inspect.isawaitable(result) else result


@contextmanager
def _set_environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
