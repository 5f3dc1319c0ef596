"""What happens in a simulated cluster, and when: the one place where its time passes.

All timers of the world run in a context of their own, so that a message is delivered although its
sender died meanwhile. Everything that happens is a line of the log.

Longer than most modules here: whatever happens in a cluster may change anything else in it, and is
read together. The books (`room.py`), the actors and the faults stand apart.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context as Variables
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pool.cluster.body import Context
from pool.cluster.interface import Actor, ActorSpec, Cluster, Death, Fault, Identity, Lease
from pool.cluster.lease import LeaseBook
from pool.errors import Fenced, MemberLost, MemberUnreachable
from pool.planning.resources import Resources
from pool.planning.restart import Cause
from pool.planning.shape import BundlePlan
from pool.replica.replica import Replica
from pool.replica.solo import Solo
from pool.testing.actors import Call, Model, ModelledReplica, Process, SimActor
from pool.testing.faults import Chance, FaultPlan
from pool.testing.meters import MeterBook
from pool.testing.room import Group, Place, Room, SimNode
from pool.testing.strikes import Strikes
from pool.testing.virtual_time import EPOCH_S, VirtualTimeLoop, current_loop

LOG_KEPT = 200_000
LATE_S = 1e-6
"""What comes later than this was kept waiting by a stall."""
IDLE_LOOKS = 4
"""How many times a node is looked at before it counts as idle."""
READ_S = 0.001
"""How long it then takes to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaler:
    """Let nodes join when placement groups wait for room, or capacity is asked for.

    Args:
        node: What each new node is.
        delay_s: Seconds from the demand to the node.
        nodes_max: How many nodes the cluster may have in all.
        idle_s: Seconds after which a node that joined is taken away, when nothing is on it and the
            capacity that is asked for is there without it; never, by default. Labels are not
            regarded.
    """

    node: SimNode
    delay_s: float = 120.0
    nodes_max: int = 1_000_000
    idle_s: float = math.inf


class World:
    """Keep the simulated cluster's state, and let things happen to it."""

    def __init__(
        self,
        nodes: Iterable[SimNode],
        seed: int,
        faults: FaultPlan,
        autoscaler: Autoscaler | None,
        modelled: bool,
        log_kept: int,
    ) -> None:
        self.chance = Chance(seed)
        self.faults = faults
        self.modelled = modelled
        self.room = Room()
        self.actors: dict[str, SimActor] = {}
        self.identities: set[Identity] = set()
        self.dead: dict[str, SimActor] = {}
        self.cut_off: dict[str, SimActor] = {}
        self.frozen: dict[str, Any] = {}
        self.published: dict[str, bytes] = {}
        self.away_until = -math.inf
        self.trespasses: list[str] = []
        # Whose lease ended, when, and when last before that somebody stood still.
        self.lapsed: list[tuple[SimActor, float, float]] = []
        self._frozen_at = -math.inf
        self.spared: set[str] = set()
        self.digest = sha256()
        self.log: deque[str] = deque(maxlen=log_kept)
        self.meters: MeterBook | None = None
        self._autoscaler = autoscaler
        self._ordered = 0
        # Those of them that are for warm capacity, and that no group has been promised yet.
        self._ordered_warm = 0
        self._wanted: list[Resources] = []
        self._answered: set[str] = set()
        self._loop: VirtualTimeLoop | None = None
        self._variables = Variables()
        self._numbers = 0
        self._settling = False
        self.strikes = Strikes(self)
        for kind in nodes:
            self.room.add(kind)

    # -- time ---------------------------------------------------------------------------------

    @property
    def loop(self) -> VirtualTimeLoop:
        """The loop of the first use."""
        if self._loop is None:
            self._loop = current_loop()
            self.strikes.begin()
        return self._loop

    @property
    def now(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()

    @property
    def stood_still_at(self) -> float:
        """When last all stood still, or a driver did."""
        return max(self.loop.stalled_until, self._frozen_at)

    def unix_time(self) -> float:
        return EPOCH_S + self.now

    def later(self, delay_s: float, happen: Callable[..., object], *args: Any) -> None:
        """Let something happen after a while, whatever becomes of who asked for it."""
        self.loop.call_later(delay_s, happen, *args, context=self._variables)

    def draw_s(self, name: str) -> float:
        """Draw one of the plan's times."""
        return self.chance.span_s(name, getattr(self.faults, name))

    def hits(self, name: str) -> bool:
        """Draw one of the plan's chances."""
        return self.chance.hits(name, getattr(self.faults, name))

    def say(self, text: str) -> None:
        """Write a line into the log."""
        line = f"{self.now:14.6f} {text}"
        self.log.append(line)
        self.digest.update(line.encode())

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def stop_control(self, for_s: float) -> None:
        """Let the cluster's own control be away: what runs, runs on, and nothing new is decided."""
        self.away_until = self.now + for_s
        self.say(f"the cluster's control is away for {for_s:g} s")

    def _when_back_s(self) -> float:
        return max(0.0, self.away_until - self.now)

    # -- placement groups ---------------------------------------------------------------------

    def ask_group(self, plan: BundlePlan, identity: Identity, owner: SimActor | None) -> Group:
        group = self.room.ask(plan, identity, owner)
        group.ready = self.loop.create_future()
        group.asked_at = self.now
        if owner is not None:
            owner.owned_groups[group.id] = group
        self.say(f"group {group.id} asked by {identity.member}: {plan.needs}")
        self.settle_soon()
        return group

    def drop_group(self, group: Group, why: str) -> None:
        if group.removed:
            return
        self.say(f"group {group.id} of {group.identity.member} removed: {why}")
        for actor in list(group.actors.values()):
            self._end_if_heard(actor, "its placement group was removed")
        self.room.drop(group)
        if group.owner is not None:
            group.owner.owned_groups.pop(group.id, None)
        self.settle_soon()

    def settle_soon(self) -> None:
        """Look for places, once for all that changes at this moment."""
        if self.room.pending and not self._settling:
            self._settling = True
            self.loop.call_soon(self._settle, context=self._variables)

    def _settle(self) -> None:
        if self._when_back_s():
            self.later(self._when_back_s(), self._settle)
            return
        self._settling = False
        for group in self.room.settle():
            where = ",".join(str(node) for node in group.nodes)
            self.say(f"group {group.id} of {group.identity.member} placed on {where}")
            if not group.was_ready:
                group.was_ready = True
                if self.hits("group_unready"):
                    self.say(f"fault: group {group.id} never gets ready")
                else:
                    self.later(self.draw_s("group_ready_s"), _resolve, group.ready)
        self._ask_for_nodes()

    def _ask_for_nodes(self) -> None:
        scaler = self._autoscaler
        if scaler is None:
            return
        for group in self.room.pending.values():
            if group.id in self._answered:
                continue
            coming = min(group.plan.n_nodes, self._ordered_warm)
            wanted = min(group.plan.n_nodes - coming, self._nodes_left(scaler))
            if wanted + coming <= 0:
                return
            self._answered.add(group.id)
            self._ordered_warm -= coming
            self._order(scaler, wanted, group.identity.member)

    def _nodes_left(self, scaler: Autoscaler) -> int:
        return max(0, scaler.nodes_max - len(self.room.places) - self._ordered)

    def _order(self, scaler: Autoscaler, count: int, what_for: str) -> None:
        if not count:
            return
        self._ordered += count
        self.say(f"autoscaler orders {count} nodes for {what_for}")
        for _ in range(count):
            self.later(scaler.delay_s, self._deliver_node, scaler)

    def _deliver_node(self, scaler: Autoscaler) -> None:
        self._ordered -= 1
        self._ordered_warm = min(self._ordered_warm, self._ordered)
        node_id = self.add_node(scaler.node)
        if scaler.idle_s < math.inf:
            self._watch_idle(scaler, self.room.places[node_id], 0)

    def request_capacity(self, bundles: list[Resources]) -> None:
        """Let there be nodes that could hold all this, in the place of what was asked before."""
        if bundles != self._wanted:
            self._wanted = bundles
            self.say(f"capacity for {len(bundles)} bundles is asked for")
        scaler = self._autoscaler
        if scaler is not None:
            totals = [place.total for place in self.room.places.values() if not place.draining]
            coming = [scaler.node.total] * self._ordered
            short = _nodes_short(bundles, totals + coming, scaler.node.total)
            count = min(short, self._nodes_left(scaler))
            self._ordered_warm += count
            self._order(scaler, count, "warm capacity")

    def _watch_idle(self, scaler: Autoscaler, place: Place, looks: int) -> None:
        """Take a node away that was found idle so many times, one after the other."""
        if self.room.places.get(place.node_id) is not place:
            return
        looks = 0 if place.groups or place.actors else looks + 1
        if looks > IDLE_LOOKS:
            others = [each.total for each in self.room.places.values() if each is not place]
            if not _nodes_short(self._wanted, others, scaler.node.total):
                self.lose_node(place, "it was idle")
                return
        self.later(scaler.idle_s / IDLE_LOOKS, self._watch_idle, scaler, place, looks)

    # -- nodes --------------------------------------------------------------------------------

    def add_node(self, kind: SimNode) -> str:
        place = self.room.add(kind)
        if self._loop is not None:
            self.say(f"node {place.node_id} joins")
            self.settle_soon()
        return place.node_id

    def lose_node(self, place: Place, why: str, *, runs_on: bool = False) -> None:
        """Take a node away; with `runs_on` it is only given up, and what is on it lives on."""
        if self.room.places.get(place.node_id) is not place:
            return
        self.say(f"node {place.node_id} lost: {why}")
        actors = list(place.actors.values())
        hurt = self.room.remove(place)
        for actor in actors:
            self.die(
                actor,
                Cause.NODE_LOST,
                f"its node {place.node_id} is gone: {why}",
                runs_on=runs_on and actor.is_running,
            )
        for group in hurt:
            for actor in list(group.actors.values()):
                if isinstance(actor, Model) and not actor.is_dead:
                    actor.lose_host(place.node_id)
                    actor.hurt_at = self.now
                    self.later(self.draw_s("death_s"), actor.tell)
        self.settle_soon()

    def silence_node(self, place: Place, for_s: float) -> None:
        if place.silent or self.room.places.get(place.node_id) is not place:
            return
        place.silent = True
        place.silent_at = self.now
        self.say(f"node {place.node_id} falls silent for {for_s:.3f} s")
        if for_s < self.faults.silence_s:
            self.later(for_s, self._restore_link, place)
        else:
            self.later(self.faults.silence_s, self._give_up, place)

    def _give_up(self, place: Place) -> None:
        self.lose_node(place, f"it was silent for {self.faults.silence_s:g} s", runs_on=True)

    def _restore_link(self, place: Place) -> None:
        place.silent = False
        place.silent_at = self.now
        self.say(f"node {place.node_id} is heard again")
        for actor in list(place.actors.values()):
            if actor.doomed:
                self.die(actor, Cause.CRASH, "it was killed")
        self.settle_soon()

    def drain_node(self, place: Place, in_s: float | None) -> None:
        deadline = None if in_s is None else self.unix_time() + in_s
        self.room.set_draining(place, True, deadline)
        when = "" if in_s is None else f", gone in {in_s:.3f} s"
        self.say(f"notice for node {place.node_id}{when}")
        if in_s is not None:
            self.later(in_s, self._end_of_notice, place, deadline)

    def _end_of_notice(self, place: Place, deadline: float) -> None:
        if place.draining and place.drain_deadline == deadline:
            self.lose_node(place, "its notice's deadline is over")

    def undrain_node(self, place: Place) -> None:
        if place.draining and self.room.places.get(place.node_id) is place:
            self.room.set_draining(place, False)
            self.say(f"notice for node {place.node_id} withdrawn")
            self.settle_soon()

    # -- actors -------------------------------------------------------------------------------

    def start_actor(
        self, spec: ActorSpec, owner: SimActor | None, view: Callable[[SimActor], Cluster]
    ) -> SimActor:
        number = self.next_number()
        actor: SimActor
        if self.modelled and spec.body in (Replica, Solo):
            actor = Model(number, spec, owner, self._model(spec))
        else:
            actor = Process(number, spec, owner, self.loop)
        self.actors[actor.id] = actor
        self.identities.add(spec.identity)
        actor.book = LeaseBook(spec.identity.member, spec.lease, self.now)
        self._await_lease(actor)
        if owner is not None:
            owner.children[actor.id] = actor
        trouble = self._locate(actor)
        self.say(f"start {actor} on {actor.place.node_id if actor.place else 'no node'}")
        if trouble is not None:
            self.later(self.draw_s("death_s"), self.die, actor, Cause.NODE_LOST, trouble)
        elif self.strikes.may_strike(actor) and self.hits("start_fails"):
            delay_s = self.draw_s("actor_start_s")
            self.later(delay_s, self.die, actor, Cause.START, "fault: its process died at once")
        else:
            for method, name in _HANGS:
                if self.strikes.may_strike(actor) and self.hits(name):
                    actor.hung.add(method)
            # A model's process and those of its hosts come up in its `start`.
            delay_s = 0.0 if isinstance(actor, Model) else self.draw_s("actor_start_s")
            self.later(delay_s, self._run_actor, actor, view)
        return actor

    def start_driver(
        self,
        main: Callable[[Any], Awaitable[None]],
        view: Callable[[SimActor], Cluster],
    ) -> SimActor:
        """Start a process that is on none of the cluster's nodes, and owns what it starts."""
        number = self.next_number()
        identity = Identity(
            pool="drivers", instance="test", slot=number, generation=1, level="driver"
        )
        spec = ActorSpec(body=object, label="driver", identity=identity)
        driver = Process(number, spec, None, self.loop)
        driver.state = "running"
        self.actors[driver.id] = driver
        self.say(f"runs {driver}")
        driver.run(main(view(driver)), lambda how: self.die(driver, Cause.CRASH, how))
        return driver

    def freeze_process(self, process: Process, for_s: float) -> None:
        """Let a process stand still, alone, while the others go on."""
        self.say(f"{process} stands still for {for_s:.3f} s")
        process.freeze()
        self._frozen_at = self.now + for_s
        self.later(for_s, self._thaw_process, process)

    def _thaw_process(self, process: Process) -> None:
        self.say(f"{process} goes on")
        process.thaw()

    def _model(self, spec: ActorSpec) -> ModelledReplica:
        assert spec.reservation is not None
        places = [self.room.places.get(node) for node in spec.reservation.nodes]
        there = [place for place in places if place is not None]
        return ModelledReplica(spec, self.faults, self.chance, there)

    def _locate(self, actor: SimActor) -> str | None:
        """Find the actor's node, and book what it holds; returns why that cannot be."""
        spec = actor.spec
        node_id = spec.node_id
        if spec.reservation is not None:
            group = self.room.groups.get(spec.reservation.id)
            if group is None:
                return "its placement group was removed"
            node_id = group.nodes[spec.bundle]
            used = group.used[spec.bundle] + spec.holds
            if node_id is None or not used.fits_in(group.plan.bundles[spec.bundle]):
                return f"bundle {spec.bundle} of its placement group has no room for it"
            group.used[spec.bundle] = used
            group.actors[actor.id] = actor
            actor.group = group
        elif node_id is None:
            ready = [p for p in self.room.places.values() if not p.draining and not p.silent]
            if not ready:
                return "no node is there"
            node_id = self.chance.of("node").choice(ready).node_id
        place = self.room.places.get(node_id)
        if place is None or (place.draining and actor.group is None):
            return f"its node {node_id} cannot take it"
        if actor.group is None and spec.holds:
            if not spec.holds.fits_in(place.free):
                return f"its node {node_id} has no room for {spec.holds}"
            self.room.take(place, spec.holds)
            actor.held_on_node = spec.holds
        actor.place = place
        place.actors[actor.id] = actor
        return None

    def _run_actor(self, actor: SimActor, view: Callable[[SimActor], Cluster]) -> None:
        if actor.state != "starting":
            return
        assert actor.place is not None
        if actor.place.silent:
            self.later(1.0, self._run_actor, actor, view)
            return
        context = Context(
            cluster=view(actor),
            identity=actor.spec.identity,
            node_id=actor.place.node_id,
            address=actor.place.address,
            lease_left_s=lambda: actor.book.left_s(self.now),
            # Many processes are one here; what each sets for itself must not reach the others.
            environ=dict(os.environ),
            has_process=False,
        )
        try:
            actor.begin(context)
        except Exception as error:
            self.die(actor, Cause.START, f"its constructor raised {error!r}")
            return
        actor.state = "running"
        self.say(f"runs {actor}")
        waiting, actor.queue = actor.queue, []
        for number, call in waiting:
            self._deliver(actor, number, call)

    def kill_actor(self, actor: SimActor) -> None:
        """Initiate an end; on a silent node nobody hears it."""
        if actor.doomed or actor.is_dead:
            return
        actor.doomed = True
        self.say(f"kill {actor}")
        self.later(self._when_back_s() + self.draw_s("death_s"), self._carry_out, actor)

    def _carry_out(self, actor: SimActor) -> None:
        if actor.place is None or not actor.place.silent:
            self.die(actor, Cause.CRASH, "it was killed")

    def _end_if_heard(self, actor: SimActor, why: str) -> None:
        """End an actor, unless it is where nobody hears; there it lives on, until it does."""
        if actor.place is not None and actor.place.silent:
            actor.doomed = True
        else:
            self.die(actor, Cause.CRASH, why)

    def _await_lease(self, actor: SimActor) -> None:
        due = actor.book.look_at()
        if due < math.inf:
            self.later(max(0.0, due - self.now), self._look_at_lease, actor, due)

    def _look_at_lease(self, actor: SimActor, due: float) -> None:
        if actor.state in ("dead", "ended"):
            return
        if not actor.book.is_over(self.now, due):
            self._await_lease(actor)
            return
        lease = actor.book.lease
        assert lease is not None
        self.say(f"lease of {actor} is over")
        # It winds itself up, and takes no work; that a word may come now changes nothing.
        actor.hurt_at = self.now
        self.lapsed.append((actor, self.now, self.stood_still_at))
        end = functools.partial(self._end_by_lease, actor)
        if actor.is_running or actor.is_cut_off:
            actor.wind_up(lease.grace_s, lambda text: self.say(f"{actor}: {text}"), end)
            self.later(lease.grace_s, end)
        else:
            end()

    def _end_by_lease(self, actor: SimActor) -> None:
        if actor.is_cut_off:
            actor.state = "dead"
            actor.end()
            del self.cut_off[actor.id]
            self.later(self.draw_s("death_s"), self._tell_death, actor)
            self.say(f"ends, cut off: {actor}")
            return
        if actor.is_dead or actor.state == "ended":
            return
        if actor.place is not None and actor.place.silent:
            # Nobody hears of it, and it cannot give its group back; that is told with its node.
            actor.state, actor.doomed = "ended", True
            actor.end()
            self.say(f"ends, unheard: {actor}")
            return
        group = actor.group
        if group is not None and actor.spec.own_group and not group.removed:
            # It dies with its group.
            self.drop_group(group, f"the lease of {actor} is over")
        self.die(actor, Cause.CRASH, "its lease is over")

    def die(self, actor: SimActor, cause: Cause, detail: str, *, runs_on: bool = False) -> None:
        """End an actor now: nothing of it runs any more, and the news of it is on its way.

        With `runs_on` only the cluster thinks so; it lives on until its lease is over.
        """
        if actor.is_dead:
            return
        actor.state = "cut off" if runs_on else "dead"
        actor.died_at = self.now
        actor.death = Death(Fault(cause, detail))
        if runs_on:
            self.cut_off[actor.id] = actor
        else:
            actor.end()
        self.say(f"{actor.state} {actor}: {cause}: {detail}")
        del self.actors[actor.id]
        self.identities.discard(actor.spec.identity)
        self.dead[actor.id] = actor
        if actor.place is not None:
            actor.place.actors.pop(actor.id, None)
            if actor.held_on_node:
                self.room.give(actor.place, actor.held_on_node)
                self.settle_soon()
        if actor.group is not None:
            actor.group.actors.pop(actor.id, None)
            if actor.group.nodes[actor.spec.bundle] is not None:
                used = actor.group.used[actor.spec.bundle]
                actor.group.used[actor.spec.bundle] = used.minus_clamped(actor.spec.holds)
        if actor.owner is not None:
            actor.owner.children.pop(actor.id, None)
            actor.owner.hurt_at = self.now
        self.later(self._when_back_s() + self.draw_s("death_s"), self._tell_death, actor)
        if actor.children or actor.owned_groups:
            self.later(self.draw_s("owner_death_s"), self._bury, actor)

    def _tell_death(self, actor: SimActor) -> None:
        assert actor.death is not None
        calls = {**actor.calls, **dict(actor.queue)}
        for number, call in calls.items():
            if not actor.is_beside(call.sender):
                actor.calls.pop(number, None)
                call.refuse(self.lost(actor))
        actor.queue.clear()
        if isinstance(actor, Model):
            for _, future in actor.lifelines:
                if not future.done():
                    future.set_result(actor.death)
            actor.lifelines.clear()

    def lost(self, actor: SimActor) -> MemberLost:
        """Return the error of a call to a dead actor."""
        assert actor.death is not None
        fault = actor.death.fault
        kind = MemberUnreachable if self._when_back_s() else MemberLost
        return kind(actor.spec.identity.member, fault.cause, fault.detail)

    def _bury(self, actor: SimActor) -> None:
        """End what a dead actor owned, as the cluster does."""
        for child in list(actor.children.values()):
            self._end_if_heard(child, "its owner died")
        for group in list(actor.owned_groups.values()):
            self.drop_group(group, "its owner died")

    # -- messages -----------------------------------------------------------------------------

    def find(self, actor: Actor) -> SimActor | None:
        return self.actors.get(actor.id) or self.dead.get(actor.id)

    def send(
        self,
        actor: SimActor,
        method: str,
        args: tuple[Any, ...],
        lease: Lease | None = None,
        sender: SimActor | None = None,
    ) -> Call:
        """Send a call; its future tells what came of it."""
        call = Call(method, args, self.loop.create_future(), lease, sender)
        if actor.is_dead and not actor.is_beside(sender):
            self.later(self.draw_s("call_s"), lambda: call.refuse(self.lost(actor)))
            return call
        number = self.next_number()
        actor.calls[number] = call
        # NB: messages do not overtake each other on the way to an actor, as with Ray.
        way_s = self.draw_s("call_s")
        # Timers of one moment have no order, so that each gets a moment of its own.
        arrives = max(self.now + way_s, actor.last_arrival + 1e-6)
        actor.last_arrival = arrives
        self.loop.call_at(arrives, self._deliver, actor, number, call, context=self._variables)
        return call

    def _deliver(self, actor: SimActor, number: int, call: Call) -> None:
        is_heard = not _is_between(actor, call)
        if actor.is_dead and not is_heard:
            return
        if call.lease is not None and is_heard:
            try:
                actor.book.hear(call.lease, self.now)
            except Fenced as error:
                self._answer(actor, number, call, None, error)
                return
            if call.method == "renew":
                actor.calls.pop(number, None)
                return
        if actor.state == "starting":
            actor.queue.append((number, call))
            return
        if not is_heard or call.method in actor.hung:
            return
        answer = functools.partial(self._answer, actor, number, call)
        if isinstance(actor, Model):
            model = actor.model
            result = model.result(call.method)
            self.later(model.takes_s(call.method), answer, result, None)
        else:
            actor.perform(call, answer)

    def _answer(
        self, actor: SimActor, number: int, call: Call, result: Any, error: BaseException | None
    ) -> None:
        is_heard = not _is_between(actor, call)
        if actor.is_dead and not is_heard:
            return
        is_ill = error is not None and not isinstance(error, Fenced)
        if is_ill and call.method == "check_health" and not actor.children:
            actor.is_ill = True
        way_s = self.draw_s("call_s")
        if call.method != "lifeline":
            if self.hits("reply_lost") or not is_heard:
                self.say(f"fault: reply of {actor} to {call.method} is lost")
                actor.spoilt_at = self.now
                actor.calls.pop(number, None)
                return
            if self.hits("reply_late"):
                late_s = self.draw_s("reply_late_s")
                self.say(f"fault: reply of {actor} to {call.method} is {late_s:.3f} s late")
                way_s += late_s
                actor.spoilt_at = self.now + late_s
        outcome = functools.partial(call.settle, result)
        if error is not None:
            outcome = functools.partial(call.refuse, error)
        self.later(way_s, self._arrive, actor, number, outcome, self.now + way_s)

    def _arrive(
        self, actor: SimActor, number: int, outcome: Callable[[], None], due: float
    ) -> None:
        if self.now > due + LATE_S:
            # Whoever stood still did not read from the network either: its timers come first.
            self.later(READ_S, self._arrive, actor, number, outcome, self.now + READ_S)
        elif actor.calls.pop(number, None) is not None:
            outcome()


def _is_between(actor: SimActor, call: Call) -> bool:
    """Whether a broken link, or a death, is between an actor and who calls it."""
    if actor.is_dead:
        return not actor.is_beside(call.sender)
    return actor.place is not None and actor.place.silent and not actor.is_beside(call.sender)


def _nodes_short(bundles: Iterable[Resources], nodes: Iterable[Resources], kind: Resources) -> int:
    """Return how many nodes of a kind are missing for all bundles, first come, first served."""
    left = list(nodes)
    short = 0
    for bundle in bundles:
        at = next((index for index, room in enumerate(left) if bundle.fits_in(room)), None)
        if at is None:
            if not bundle.fits_in(kind):
                continue  # No number of nodes would do.
            short += 1
            at = len(left)
            left.append(kind)
        left[at] -= bundle
    return short


_HANGS = (("start", "start_hangs"), ("drain", "drain_hangs"), ("shutdown", "shutdown_hangs"))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
