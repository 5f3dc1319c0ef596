"""`SimulatedCluster`: the cluster interface in virtual time, with faults from one seed.

Managers, replicas and node hosts run on it unchanged, each in a process of its own as far as dying
is concerned, and all on one event loop. It keeps the contract of `pool.cluster.interface`, and the
habits of Ray that go beyond it: what an actor started dies with it, a placement group that lost a
node looks for another, a draining node takes nothing new, a silent node is noticed late.

Limits: arguments and results are handed over as they are, not pickled. Node hosts share this one
operating system process, so that the working directory and module globals are common to them, and
what is set for one of them alone is in `context.environ`, not in `os.environ`; `HostInfo.pid` is
the same for all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from pool.cluster.interface import (
    Actor,
    ActorSpec,
    Cluster,
    Death,
    Done,
    Fault,
    Found,
    Identity,
    Lease,
    News,
    Reply,
    ReplyKind,
    Reservation,
)
from pool.cluster.meters import Meter, Record
from pool.demand.broker import BROKER
from pool.errors import (
    CallTimeout,
    Fenced,
    MemberLost,
    MemberUnreachable,
    NameTaken,
    ReservationFailed,
    SourceUnavailable,
)
from pool.planning.resources import Resources
from pool.planning.restart import Cause
from pool.planning.shape import BundlePlan
from pool.planning.topology import Topology
from pool.testing.actors import Model, SimActor
from pool.testing.controls import Controls
from pool.testing.faults import FaultPlan
from pool.testing.meters import MeterBook
from pool.testing.room import Group, SimNode, node_kinds
from pool.testing.world import LOG_KEPT, Autoscaler, World

HEALTHY = Reply(ReplyKind.ANSWER)
WINDOW_S = 0.001
"""How long it takes to publish something, or to read it."""


def _nothing() -> None:
    """Stop nothing: the call was not sent."""


class SimulatedCluster(Controls, Cluster):
    """Be a cluster in virtual time. Use it inside `pool.testing.run`.

    Args:
        nodes: The nodes that are there at first.
        seed: From which everything is drawn that happens by chance.
        faults: How long things take, and what goes wrong.
        autoscaler: Who brings further nodes when groups wait; nobody by default.
        modelled: Whether a replica is a model, that runs no hosts and no code of yours: for pools
            of thousands.
        log_kept: How many lines of the log are kept; the digest covers all.
        meters: Who collects metrics; nobody by default.

    Raises:
        ConfigError: A value cannot be right.
    """

    def __init__(
        self,
        nodes: Iterable[SimNode] = (SimNode(gpus=8),),
        *,
        seed: int = 0,
        faults: FaultPlan | None = None,
        autoscaler: Autoscaler | None = None,
        modelled: bool = False,
        log_kept: int = LOG_KEPT,
        meters: MeterBook | None = None,
    ) -> None:
        kinds = node_kinds(nodes)
        plan = FaultPlan() if faults is None else faults
        self._world = World(kinds, seed, plan, autoscaler, modelled, log_kept)
        self._world.meters = meters
        self._owner: SimActor | None = None

    def _seen_from(self, actor: SimActor) -> SimulatedCluster:
        """Return the same cluster, as the code inside an actor sees it."""
        view = SimulatedCluster.__new__(SimulatedCluster)
        view._world, view._owner = self._world, actor
        return view

    @property
    def _is_cut_off(self) -> bool:
        """Whether whoever asks is dead: what the dead still do has no effect."""
        return self._owner is not None and self._owner.is_dead

    # -- the interface ------------------------------------------------------------------------

    async def topology(self) -> Topology:
        await self._message()
        return self._world.room.topology()

    async def draining(self) -> Mapping[str, float | None]:
        if self._world.away_until > self._world.now:
            raise SourceUnavailable("the simulated cluster's control is away")
        await self._message()
        if self._world.hits("source_unavailable"):
            raise SourceUnavailable("the simulated cluster does not say which nodes drain")
        places = self._world.room.places
        return {
            node_id: place.drain_deadline for node_id, place in places.items() if place.draining
        }

    async def tell_draining(self, node_id: str, reason: str, deadline: float | None) -> bool:
        await self._message()
        place = self._world.room.places.get(node_id)
        if self._is_cut_off or place is None or place.draining:
            return False
        left_s = None if deadline is None else max(0.0, deadline - self.unix_time())
        self._world.say(f"the cluster is told: {reason}")
        self._world.drain_node(place, left_s)
        return True

    async def reserve(
        self,
        plan: BundlePlan,
        identity: Identity,
        timeout_s: float,
        *,
        detached: bool = False,
        nodes: Sequence[str] = (),
    ) -> Reservation:
        world = self._world
        await self._until_back()
        if self._is_cut_off:
            raise ReservationFailed("whoever asks is dead")
        self._check_own(identity, "reserve")
        group = world.ask_group(plan, identity, None if detached else self._owner)
        group.detached, group.pins = detached, tuple(nodes)
        try:
            await asyncio.wait([group.ready], timeout=timeout_s)
        except BaseException:
            self._drop(group, "its request was cancelled")
            raise
        if not group.ready.done() or group.removed or not group.is_placed:
            self._drop(group, "it was not ready in time")
            raise ReservationFailed(
                f"the placement group of {identity.member} ({plan.reason}) "
                f"was not ready within {timeout_s:g} s"
            )
        nodes = tuple(str(node) for node in group.nodes)
        return Reservation(group.id, nodes, plan.bundles, group.id)

    def _drop(self, group: Group, why: str) -> None:
        if not self._is_cut_off:
            self._world.drop_group(group, why)

    async def release(self, reservation: Reservation) -> None:
        if self._is_cut_off:
            return
        await self._message()
        group = self._world.room.groups.get(reservation.id)
        if group is not None:
            self._check_own(group.identity, "release")
            self._world.drop_group(group, "it was given back")

    async def prestart(self, nodes: Sequence[str]) -> None:
        await anyio.lowlevel.checkpoint()  # It changes nothing, and can be cancelled as any call.

    async def request_capacity(
        self,
        bundles: Sequence[Mapping[str, float]],
        labels: Sequence[Mapping[str, str]],
        lasts_s: float,
    ) -> str:
        if self._world.away_until > self._world.now:
            raise SourceUnavailable("the simulated cluster's control is away")
        await self._message()
        if not self._is_cut_off:
            self._world.request_capacity([Resources(bundle) for bundle in bundles])
        return "the simulated autoscaler"

    async def start(self, spec: ActorSpec) -> Actor:
        await self._until_back()
        if self._is_cut_off:
            return Actor("", spec.identity)
        self._check_own(spec.identity, "start")
        if spec.identity in self._world.identities:
            raise NameTaken(f"there is an actor {spec.identity} already")
        owner = None if spec.detached else self._owner
        return self._world.start_actor(spec, owner, self._seen_from).handle

    def kill(self, actor: Actor) -> None:
        record = self._world.find(actor)
        if record is not None and not self._is_cut_off:
            self._check_own(record.spec.identity, "kill")
            self._world.kill_actor(record)

    async def call(
        self, actor: Actor, method: str, *args: Any, timeout_s: float | None = None
    ) -> Any:
        record = self._reach(actor)
        call = self._world.send(record, method, args, sender=self._owner)
        await asyncio.wait([call.future], timeout=timeout_s)
        if not call.future.done():
            self._world.say(f"call of {method} on {record} timed out after {timeout_s:g} s")
            raise CallTimeout(
                f"{actor.identity.member} did not answer {method}() within {timeout_s:g} s"
            )
        return call.future.result()

    def begin(self, actor: Actor, method: str, *args: Any, done: Done) -> Callable[[], None]:
        try:
            call = self._world.send(self._reach(actor), method, args, sender=self._owner)
        except MemberLost as error:
            self._world.loop.call_soon(done, None, error)
            return _nothing

        def tell(future: asyncio.Future[Any]) -> None:
            error = future.exception()
            done(None if error is not None else future.result(), error)

        def stop() -> None:
            self._world.later(self._world.draw_s("call_s"), call.stop)

        call.future.add_done_callback(tell)
        return stop

    def share(self, value: Any) -> Any:
        return self.freeze(value)

    async def fetch(self, reference: Any) -> Any:
        await self._message()
        return self.thaw(reference)

    async def refer(self, actor: Actor, method: str, *args: Any) -> Any:
        result: asyncio.Future[Any] = self._world.loop.create_future()
        result.set_result(await self.call(actor, method, *args))
        return result

    def _reach(self, actor: Actor) -> SimActor:
        record = self._world.find(actor)
        if record is None or (self._is_cut_off and not record.is_beside(self._owner)):
            raise MemberLost(actor.identity.member, Cause.CRASH, "it cannot be reached")
        return record

    async def lifeline(self, actor: Actor, seen: int) -> News | Death:
        world = self._world
        record = world.find(actor)
        if record is None or (self._is_cut_off and not record.is_beside(self._owner)):
            await anyio.sleep(world.draw_s("death_s"))
            return Death(Fault(Cause.CRASH, "it cannot be reached"))
        if isinstance(record, Model) and not record.is_dead:
            future: asyncio.Future[News | Death] = world.loop.create_future()
            record.lifelines.append((seen, future))
            if record.news.version > seen:
                world.later(world.draw_s("call_s"), record.tell)
            return await future
        try:
            news: News = await world.send(record, "lifeline", (seen,), sender=self._owner).future
        except MemberLost as error:
            # That it cannot be reached is not yet the news of its death.
            await self._until_back()
            return record.death or Death(Fault(Cause(error.cause), error.detail))
        except Exception as error:
            return Death(Fault(Cause.CRASH, f"its lifeline raised {error!r}"))
        return news

    async def poll(
        self, actors: Sequence[Actor], timeout_s: float, lease: Lease | None = None
    ) -> list[Reply]:
        world = self._world
        if not actors:
            return []
        if not self._is_cut_off and world.hits("poll_unavailable"):
            world.say(f"fault: {len(actors)} health polls cannot be made")
            await self._message()
            return [Reply(ReplyKind.UNAVAILABLE, detail="nobody can be asked")] * len(actors)
        if world.modelled:
            return await self._poll_models(actors, timeout_s, lease)
        calls = {}
        for actor in actors:
            with contextlib.suppress(MemberLost):
                calls[actor.id] = world.send(
                    self._reach(actor), "check_health", (), lease, self._owner
                )
        if calls:
            await asyncio.wait([call.future for call in calls.values()], timeout=timeout_s)
        lost = Reply(ReplyKind.UNAVAILABLE, detail="it cannot be reached")
        return [
            _reply(calls[actor.id].future, timeout_s) if actor.id in calls else lost
            for actor in actors
        ]

    async def _poll_models(
        self, actors: Sequence[Actor], timeout_s: float, lease: Lease | None
    ) -> list[Reply]:
        """Answer for all models in one step; each message for itself would cost a task each."""
        world = self._world
        faults, chance = world.faults, world.chance.of("poll")
        missing = faults.reply_lost + faults.reply_late
        replies = []
        is_slow = False
        for actor in actors:
            record = world.actors.get(actor.id)
            if record is None:
                replies.append(Reply(ReplyKind.UNAVAILABLE, detail="it is dead"))
            elif (
                (record.hung and "check_health" in record.hung)
                or (missing and chance.random() < missing)
                or (record.place is not None and record.place.silent)
            ):
                is_slow = True
                replies.append(Reply(ReplyKind.TIMEOUT, detail=f"no answer in {timeout_s:g} s"))
            else:
                record.book.hear(lease, world.now)
                replies.append(HEALTHY)
        await asyncio.sleep(timeout_s if is_slow else 2 * world.draw_s("call_s"))
        return replies

    async def find(self, identity: Identity) -> Actor | None:
        await self._message()
        return next((a for a in self.actors() if str(a.identity) == str(identity)), None)

    async def inventory(self, pool: str | None = None, instance: str | None = None) -> list[Found]:
        await self._message()
        actors = {a.identity: a for a in self.actors() if a.identity.is_of(pool, instance)}
        groups = {
            group.identity: group
            for group in self._world.room.groups.values()
            if group.identity.is_of(pool, instance)
        }
        found = []
        for identity in dict.fromkeys([*actors, *groups]):
            group = groups.get(identity)
            whole = broken = None
            if group is not None:
                nodes = tuple(node or "" for node in group.nodes)
                held = Reservation(group.id, nodes, group.plan.bundles, group.id)
                whole, broken = (held, None) if group.is_placed else (None, held)
            actor = actors.get(identity)
            owner = group.owner if group is not None else None
            found.append(
                Found(
                    identity,
                    actor,
                    whole,
                    broken,
                    detached=(group is not None and group.detached)
                    or (actor is not None and self._world.actors[actor.id].spec.detached),
                    orphaned=owner is not None and owner.is_dead,
                    age_s=0.0 if group is None else self._world.now - group.asked_at,
                )
            )
        return found

    def whoami(self) -> str:
        return "the test" if self._owner is None else self._owner.id

    async def is_gone(self, process: str) -> bool:
        await self._message()
        return process in self._world.dead

    def freeze(self, value: Any) -> bytes:
        key = f"frozen {len(self._world.frozen)}"
        self._world.frozen[key] = value
        return key.encode()

    def thaw(self, frozen: bytes) -> Any:
        return self._world.frozen[frozen.decode()]

    async def silent_nodes(self, nodes: Sequence[str], actor: Actor) -> list[str]:
        await anyio.sleep(2 * self._world.draw_s("call_s"))
        places = self._world.room.places
        if not nodes:
            record = self._world.find(actor)
            nodes = [] if record is None or record.place is None else [record.place.node_id]
        lost = {a.place.node_id for a in self._world.cut_off.values() if a.place is not None}
        return [
            node
            for node in dict.fromkeys(nodes)
            if node in lost or (node in places and places[node].silent)
        ]

    def renew(self, actors: Sequence[Actor], lease: Lease) -> None:
        for actor in actors:
            record = self._world.find(actor)
            if record is not None and record.is_dead == self._is_cut_off:
                self._world.send(record, "renew", (), lease, self._owner)

    async def leftovers(self, pool: str, instance: str) -> list[str]:
        if self._is_cut_off:
            return []
        await self._message()
        return self.left(pool, instance)

    def meter(self, meter: Meter) -> Record | None:
        return None if self._world.meters is None else self._world.meters.meter(meter)

    @property
    def has_window(self) -> bool:
        # Pools of thousands would spend more on showing themselves than on all else.
        return not self._world.modelled

    async def publish(self, values: Mapping[str, bytes]) -> None:
        await self._ask_window()
        if not self._is_cut_off:
            self._world.published.update(values)

    async def published(self, prefix: str) -> Mapping[str, bytes]:
        await self._ask_window()
        found = {} if self._is_cut_off else self._world.published
        return {key: value for key, value in found.items() if key.startswith(prefix)}

    async def withdraw(self, prefix: str) -> None:
        for key in await self.published(prefix):
            self._world.published.pop(key, None)

    async def _ask_window(self) -> None:
        """Take a moment that is not drawn by chance: who only looks on changes no story."""
        if self._world.away_until > self._world.now:
            raise SourceUnavailable("the simulated cluster's control is away")
        await anyio.sleep(WINDOW_S)

    def unix_time(self) -> float:
        return self._world.unix_time()

    async def _message(self) -> None:
        await self._until_back()
        if not self._is_cut_off:
            await anyio.sleep(2 * self._world.draw_s("call_s"))

    async def _until_back(self) -> None:
        """Wait for the cluster's control, if it is away."""
        left_s = self._world.away_until - self._world.now
        if left_s > 0:
            await anyio.sleep(left_s)
            await self._until_back()

    def _check_own(self, identity: Identity, deed: str) -> None:
        """Note who touches what is not theirs (INV-10)."""
        mine = self._owner.spec.identity if self._owner is not None else None
        if (
            mine is not None
            and identity != BROKER  # Everybody's.
            and mine.level not in ("driver", "keeper")
            and identity.instance != mine.instance
        ):
            self._world.trespasses.append(f"INV-10: {mine.member} did {deed} {identity.member}")


def _reply(future: asyncio.Future[Any], timeout_s: float) -> Reply:
    if not future.done():
        return Reply(ReplyKind.TIMEOUT, detail=f"no answer within {timeout_s:g} s")
    error = future.exception()
    if error is None:
        return Reply(ReplyKind.ANSWER, future.result())
    if isinstance(error, Fenced):
        return Reply(ReplyKind.FENCED, error.later, str(error))
    if isinstance(error, MemberUnreachable):
        return Reply(ReplyKind.UNREACHABLE, detail=error.detail)
    if isinstance(error, MemberLost):
        # A death is told by the lifeline; a poll that meets one is no verdict (INV-9).
        return Reply(ReplyKind.UNAVAILABLE, detail=error.detail)
    return Reply(ReplyKind.ERROR, detail=str(error))
