"""Where calls are taken: who is admitted, what is under way, and how a function is run.

The bodies of node hosts, of rank actors and of runs are all such places. The object whose methods
may be called by name is the user's own and knows nothing of all that.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio

from pool.cluster.body import Bulletin, Context
from pool.cluster.interface import News
from pool.errors import MemberFailed, NotAdmitted
from pool.host.labour import Shift, labour, staying
from pool.host.parcel import Opened, Parcel
from pool.host.streams import Streams
from pool.planning.restart import Cause

THREADS = 40
"""How many plain functions a member runs at once."""


class Workplace:
    """Take calls for a user's object, and count them.

    Attributes:
        subject: The user's object; None until there is one.
        bulletin: What the owner is told at once.
    """

    def __init__(self) -> None:
        self.subject: Any = None
        self.bulletin = Bulletin()
        self._context: Context | None = None
        self._admits = True
        self._is_closed = False
        self._calls: set[asyncio.Future[None]] = set()
        self._environment = asyncio.Lock()
        self._opened = Opened()
        self._threads: ThreadPoolExecutor | None = None
        self._streams = Streams(self.in_thread)

    @property
    def context(self) -> Context:
        """Where it runs, and whom it belongs to."""
        assert self._context is not None, "it was not started"
        return self._context

    async def check_health(self) -> None:
        """Let the user's object say whether it is well, if it has an opinion.

        Raises:
            RuntimeError: It returned False, where it was to raise what is wrong.
        """
        check = getattr(self.subject, "check_health", None)
        if check is not None and await finish(check()) is False:
            raise RuntimeError(
                f"{type(self.subject).__name__}.check_health returned False; raise an error that "
                'says what is wrong, as in `raise RuntimeError("no progress")`'
            )

    async def lifeline(self, seen: int) -> News:
        """Wait for news beyond version `seen`."""
        return await self.bulletin.after(seen)

    async def drain(self, budget_s: float) -> None:
        """Admit nobody any more, and wait until what is under way is done."""
        self._admits = False
        with anyio.move_on_after(budget_s):
            await self.until_done(self._calls)

    async def restore(self) -> None:
        """Admit calls again.

        Raises:
            MemberFailed: It is being put down; there is no way back from that.
        """
        if self._is_closed:
            detail = "it is being put down already"
            raise MemberFailed(self.context.identity.member, Cause.CRASH, detail)
        self._admits = True

    def close(self) -> None:
        """Admit nobody any more, for good."""
        self._admits = False
        self._is_closed = True

    async def execute(
        self,
        work: Callable[..., Any] | str,
        args: tuple[Any, ...],
        environment: Mapping[str, str] | None = None,
    ) -> Any:
        """Call a function, or the object's own method of that name, and return its result.

        A plain function runs in a thread, an async one on the main loop. With an environment,
        the variables are set for the length of the call, and such calls run one after the other.

        Raises:
            NotAdmitted: The member is being drained.
        """
        function = getattr(self.subject, work) if isinstance(work, str) else work
        with self.admit():
            if environment is None:
                return await self.run(function, *args)
            async with self._environment:
                with _set_for_now(self.context.environ, environment):
                    return await self.run(function, *args)

    async def do_jobs(self, work: Parcel | str, jobs: Sequence[tuple[Any, ...]]) -> Shift:
        """Call a function for each of some jobs; see `pool.host.labour`.

        Args:
            work: The function, or the name of a method of the object.
            jobs: The arguments of each call.

        Raises:
            NotAdmitted: The member is being drained; nothing was begun.
        """
        with self.admit():
            function, cluster = await self._function(work), self.context.cluster
            jobs = [await self._opened.arguments(cluster, job) for job in jobs]
            took_s, outcomes = await labour(function, jobs, self.in_thread, cluster.sendable)
            return took_s, [cluster.bulky(outcome) for outcome in outcomes]

    async def _function(self, work: Parcel | str) -> Callable[..., Any]:
        if isinstance(work, str):
            method: Callable[..., Any] = getattr(self.subject, work)
            return method
        return await self._opened.function(self.context.cluster, work)

    async def begin_stream(self, work: Parcel | str, args: tuple[Any, ...]) -> int:
        """Call a generator function, and return the number by which it is read.

        Raises:
            NotAdmitted: The member is being drained.
        """
        with self.admit():
            function = await self._function(work)
            args = await self._opened.arguments(self.context.cluster, args)
            return self._streams.begin(function, args, self.admit())

    async def read_stream(self, number: int) -> tuple[list[Any], bool]:
        """Wait for values of a stream; see `Streams.read`."""
        return await self._streams.read(number)

    async def close_stream(self, number: int) -> None:
        """End a stream where it is."""
        await self._streams.close(number)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a piece of work for as long as it is under way.

        Raises:
            NotAdmitted: The member is being drained.
        """
        if not self._admits:
            raise NotAdmitted(f"{self.context.identity.member} takes no new work")
        call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)
            call.set_result(None)

    @property
    def calls(self) -> frozenset[asyncio.Future[None]]:
        """What is under way now: one future each, that is done with it."""
        return frozenset(self._calls)

    async def until_done(self, calls: Collection[asyncio.Future[None]]) -> None:
        """Wait until none of these calls is under way."""
        while calls := [call for call in calls if not call.done()]:
            await asyncio.wait(calls)

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a plain function in a thread, or an async one on the loop, and wait for it.

        Raises:
            RemoteError: The function would have ended this process, as `sys.exit` does.
        """
        with staying():
            if inspect.iscoroutinefunction(function):
                return await function(*args)
            return await finish(await self.in_thread(functools.partial(function, *args)))

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        """Run plain code in a thread. Cancelled, it goes on there, and is waited for by nobody."""
        # NB: not anyio's threads, for their limiter costs as much as a call.
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="work")
        run = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._threads, run, work)


async def finish(result: Any) -> Any:
    """Await what a plain-or-async method returned, if it is awaitable."""
    return await result if inspect.isawaitable(result) else result


@contextmanager
def _set_for_now(environ: MutableMapping[str, str], variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: environ.get(name) for name in variables}
    environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                environ.pop(name, None)
            else:
                environ[name] = value
