"""The actors of a simulated cluster: a process with a real body in it, or a model of one.

A process runs the body's own code as tasks on the virtual loop, all of them of one `Life`. A model
stands for a whole replica with its hosts and runs nothing: it says how long each step takes and
what comes of it, which is what a pool of ten thousand can afford.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as Variables
from typing import Any, Protocol

from pool.cluster.body import Context
from pool.cluster.interface import NOTHING, Actor, ActorSpec, Death, Fault, Lease, News
from pool.cluster.lease import LeaseBook, wind_up
from pool.errors import PoolError
from pool.host.info import HostInfo, ReplicaInfo
from pool.planning.restart import Cause
from pool.testing.faults import Chance, FaultPlan
from pool.testing.room import Group, Place
from pool.testing.virtual_time import LIFE, VirtualTimeLoop

Done = Callable[[], object]


class Call:
    """A call that was sent, and the future that its sender waits for."""

    __slots__ = ("args", "future", "lease", "method", "sender", "task")

    def __init__(
        self,
        method: str,
        args: tuple[Any, ...],
        future: asyncio.Future[Any],
        lease: Lease | None,
        sender: SimActor | None,
    ) -> None:
        self.method = method
        self.args = args
        self.future = future
        self.lease = lease
        self.sender = sender
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Cancel it where it runs, if it does."""
        if self.task is not None:
            self.task.cancel()

    def settle(self, value: Any) -> None:
        """Give the sender a result, unless there is one or nobody waits any more."""
        if not self.future.done():
            self.future.set_result(value)

    def refuse(self, error: BaseException) -> None:
        """Give the sender an error."""
        if not self.future.done():
            self.future.set_exception(error)
            # Whoever gave up waiting does not have to look at it.
            self.future.exception()


class SimActor:
    """An actor: where it runs, whose it is, and what became of it."""

    def __init__(self, number: int, spec: ActorSpec, owner: SimActor | None) -> None:
        self.number = number
        self.spec = spec
        self.owner = owner
        self.handle = Actor(f"a{number}", spec.identity)
        self.place: Place | None = None
        self.group: Group | None = None
        self.held_on_node = NOTHING
        self.state = "starting"
        self.death: Death | None = None
        self.doomed = False
        self.children: dict[str, SimActor] = {}
        self.owned_groups: dict[str, Group] = {}
        # What was sent and is not answered; before the process is there, it waits in the queue.
        self.calls: dict[int, Call] = {}
        self.queue: list[tuple[int, Call]] = []
        self.hung: set[str] = set()
        self.book = LeaseBook(spec.identity.member, spec.lease, 0.0)
        self.last_arrival = 0.0
        self.died_at = 0.0
        # When it last lost somebody below it; when a reply of it was last lost or late; and
        # whether its own check ever said no.
        self.hurt_at = -math.inf
        self.spoilt_at = -math.inf
        self.is_ill = False

    @property
    def id(self) -> str:
        return self.handle.id

    @property
    def is_dead(self) -> bool:
        """Whether the cluster knows it as dead; cut off, it may yet live."""
        return self.state in ("dead", "cut off")

    @property
    def is_cut_off(self) -> bool:
        """Whether it lives where nobody can reach it."""
        return self.state == "cut off"

    def is_beside(self, other: SimActor | None) -> bool:
        """Whether the two live on one node, so that no broken link is between them."""
        return (
            other is not None
            and self.place is not None
            and self.place is other.place
            and self.is_dead == other.is_dead
            and "dead" not in (self.state, other.state)
        )

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    def __str__(self) -> str:
        return f"{self.spec.identity.level} {self.spec.identity.member} ({self.id})"

    def begin(self, context: Context) -> None:
        """Make the body, now that the process is there."""

    def end(self) -> None:
        """Stop everything that runs in the process."""

    def wind_up(self, grace_s: float, say: Callable[[str], object], end: Done) -> None:
        """Put everything down, as at the end of a lease, and call `end`."""
        end()

    def perform(self, call: Call, answer: Callable[[Any, BaseException | None], None]) -> None:
        """Run a method of the body, and hand on what came of it."""
        raise NotImplementedError


class Process(SimActor):
    """An actor that runs a real body."""

    def __init__(
        self, number: int, spec: ActorSpec, owner: SimActor | None, loop: VirtualTimeLoop
    ) -> None:
        super().__init__(number, spec, owner)
        self._loop = loop
        self._life = loop.new_life()
        self._variables = Variables()
        self._variables.run(LIFE.set, self._life)
        self.body: Any = None
        self._context: Context | None = None
        self._started: asyncio.Future[Any] | None = None
        # The loop forgets tasks that nobody holds.
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, context: Context) -> None:
        self._context = context
        self.body = self._variables.run(self.spec.body, *self.spec.args)

    def end(self) -> None:
        self._loop.end_life(self._life)

    def freeze(self) -> None:
        """Stop the process without ending it."""
        self._loop.freeze_life(self._life)

    def thaw(self) -> None:
        """Let the process go on."""
        self._loop.thaw_life(self._life)

    def perform(self, call: Call, answer: Callable[[Any, BaseException | None], None]) -> None:
        call.task = self._spawn(self._run(call, answer))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work, context=self._variables)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run(self, main: Awaitable[None], end: Callable[[str], object]) -> None:
        """Run a main program in the process, and say how it ended."""

        async def run() -> None:
            try:
                await main
            except Exception as error:
                end(f"its program raised {error!r}")
                raise
            end("its program ended")

        self._spawn(run())

    def wind_up(self, grace_s: float, say: Callable[[str], object], end: Done) -> None:
        async def wind() -> None:
            if self._started is not None:
                await wind_up(self.body, grace_s, say)
            end()

        self._spawn(wind())

    async def _run(self, call: Call, answer: Callable[[Any, BaseException | None], None]) -> None:
        try:
            if call.method == "start":
                result = await self._start()
            else:
                result = getattr(self.body, call.method)(*call.args)
                if inspect.isawaitable(result):
                    result = await result
        except Exception as error:
            answer(None, error)
        except asyncio.CancelledError:
            answer(None, PoolError("the call was cancelled"))
            raise
        else:
            answer(result, None)

    async def _start(self) -> Any:
        """Let the body get ready, once; whoever asks again gets the same answer."""
        started = self._started
        if started is None:
            started = self._started = asyncio.ensure_future(self.body.start(self._context))
        return await asyncio.shield(started)


class SimBody(Protocol):
    """Stand for a body without running it."""

    def takes_s(self, method: str) -> float:
        """Return how long a method takes, in seconds."""
        ...

    def result(self, method: str) -> Any:
        """Return what a method returns."""
        ...


class Model(SimActor):
    """An actor that is a model."""

    def __init__(
        self, number: int, spec: ActorSpec, owner: SimActor | None, model: SimBody
    ) -> None:
        super().__init__(number, spec, owner)
        self.model = model
        self.news = News()
        self.lifelines: list[tuple[int, asyncio.Future[Any]]] = []

    def lose_host(self, node_id: str) -> None:
        """Say that a host was lost, and the gang with it."""
        if self.news.fault is None:
            fault = Fault(Cause.NODE_LOST, f"host on {node_id}: its node is gone")
            self.news = News(self.news.version + 1, self.news.notices, fault)

    def tell(self) -> None:
        """Tell the news to all who wait for it."""
        waiting, self.lifelines = self.lifelines, []
        for seen, future in waiting:
            if future.done():
                continue
            if self.news.version > seen:
                future.set_result(self.news)
            else:
                self.lifelines.append((seen, future))


class ModelledReplica:
    """Stand for a replica, its host pool and its node hosts.

    Args:
        spec: The replica's.
        faults: How long things take.
        chance: Where that is drawn.
        places: The nodes of its bundles.
    """

    def __init__(
        self, spec: ActorSpec, faults: FaultPlan, chance: Chance, places: list[Place]
    ) -> None:
        self._spec = spec
        self._faults = faults
        self._chance = chance
        self._places = places

    def takes_s(self, method: str) -> float:
        """Return the time of the slowest host."""
        if method != "start":
            return self._chance.span_s("model", self._faults.call_s)
        n = len(self._places)
        low, high = self._faults.actor_start_s
        # The largest of n uniform draws, in one.
        return low + (high - low) * float(self._chance.of("model").random() ** (1 / n))

    def result(self, method: str) -> Any:
        """Return the replica's info for `start`, and nothing for the others."""
        if method != "start":
            return None
        reservation = self._spec.reservation
        assert reservation is not None
        hosts = tuple(
            HostInfo(
                index=index,
                hosts=len(self._places),
                node_id=place.node_id,
                address=place.address,
                pid=0,
                bundle=reservation.bundles[index],
                actor=Actor("", self._spec.identity),
            )
            for index, place in enumerate(self._places)
        )
        return ReplicaInfo(hosts, self._places[0].node_id)
