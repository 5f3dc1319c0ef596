"""`ManagedProcess`: a process on a node host, as its driver sees it."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pool.cluster.interface import ActorSpec, Cluster, Identity
from pool.errors import MemberLost
from pool.host.info import HostInfo
from pool.host.log_reader import LogReader
from pool.process.exits import Exit, StopReport
from pool.process.logs import Cursor
from pool.process.managed import ProcessStatus

ASK_TIMEOUT_S = 10.0
STOP_MARGIN_S = 10.0
READER_TIMEOUT_S = 60.0
FOLLOW_PAUSE_S = 0.2
READ_BYTES = 64 * 1024


class ManagedProcess:
    """Look after one process on a node host. Get it from `Host.start_process` or `Host.process`.

    When the host is lost, the process is too: it ends within its grace, and calls raise
    `MemberLost`; its log can be read for as long as its node is there.

    Attributes:
        name: Its name.
        host: The host that it runs on.
        ports: Its leased ports, by name.
    """

    def __init__(self, cluster: Cluster, host: HostInfo, status: ProcessStatus) -> None:
        self.name = status.name
        self.host = host
        self.ports = dict(status.ports)
        self._cluster = cluster
        self._log = status.log

    def __repr__(self) -> str:
        return f"ManagedProcess({self.name!r} on {self.host.actor.identity.member!r})"

    def address(self, port: str) -> str:
        """Return `address:port` of one of its leased ports, for others to connect to."""
        host = self.host.address
        return f"[{host}]:{self.ports[port]}" if ":" in host else f"{host}:{self.ports[port]}"

    async def status(self) -> ProcessStatus:
        """Return what it is now.

        Raises:
            MemberLost: Its host is lost.
            CallTimeout: Its host did not answer within 10 s.
        """
        status: ProcessStatus = await self._ask("status", timeout_s=ASK_TIMEOUT_S)
        return status

    async def is_alive(self) -> bool:
        """Return whether it runs; False also when its host is lost."""
        try:
            return (await self.status()).pid is not None
        except MemberLost:
            return False

    async def wait(self) -> Exit:
        """Wait for its end for good, and return how it ended.

        Raises:
            MemberLost: Its host was lost, and nobody knows how it ended.
        """
        exit_: Exit | None = await self._ask("wait")
        return exit_ or Exit()

    async def stop(self, grace_s: float | None = None) -> StopReport:
        """Stop it and all that it started; return when nothing of it is left.

        Args:
            grace_s: Seconds from SIGTERM to SIGKILL; None is that of its description.

        Raises:
            MemberLost: Its host is lost, which stops it as well.

        Cancelled, the stop itself goes on.
        """
        report: StopReport = await self._ask("stop", grace_s)
        return report

    async def signal(self, number: int) -> None:
        """Send a signal to the process itself, not to what it started.

        Raises:
            ProcessFailed: It does not run now.
            MemberLost: Its host is lost.
        """
        await self._ask("signal", number, timeout_s=ASK_TIMEOUT_S)

    async def tail(self, lines: int = 50) -> str:
        """Return the last lines of its log, also after its host's death.

        Raises:
            MemberLost: The node is lost with its host.
        """
        try:
            text: str = await self._ask("tail_log", lines, timeout_s=ASK_TIMEOUT_S)
        except MemberLost:
            async with self._reader() as read:
                text = await read("tail", self._log, lines)
        return text

    async def follow(self, *, from_start: bool = False) -> AsyncIterator[str]:
        """Yield pieces of its log, whole lines each, as they are written, until it is gone.

        Args:
            from_start: Whether to begin with the oldest line that is kept, not with the next.

        Raises:
            MemberLost: Its host was lost, after all that can still be read was yielded.
        """
        cursor: Cursor | None = None if from_start else await self._ask("end_of_log")
        while True:
            try:
                # Asked first: what was written before the end is then read after it.
                is_gone = (await self.status()).state.is_terminal
                text, cursor = await self._ask("read_log", cursor, READ_BYTES)
            except MemberLost:
                async with self._reader() as read:
                    while (rest := await read("read", self._log, cursor, READ_BYTES))[0]:
                        text, cursor = rest
                        yield text
                raise
            if text:
                yield text
            elif is_gone:
                return
            else:
                await asyncio.sleep(FOLLOW_PAUSE_S)

    async def _ask(self, question: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Ask the host about this process."""
        return await self._cluster.call(
            self.host.actor, "about_process", question, self.name, *args, timeout_s=timeout_s
        )

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
        """Have an actor on the node, whose host is gone, and yield what calls it."""
        lost = self.host.actor.identity
        identity = Identity(
            pool=lost.member,
            instance=lost.instance,
            slot=0,
            generation=1,
            level="reader",
            serial=random.getrandbits(31),  # several may read at one time, from several drivers
        )
        reader = await self._cluster.start(
            ActorSpec(
                body=LogReader, label="LogReader", identity=identity, node_id=self.host.node_id
            )
        )
        try:
            yield functools.partial(self._cluster.call, reader, timeout_s=READER_TIMEOUT_S)
        finally:
            self._cluster.kill(reader)
