"""Faults that come at a rate: whom they strike, and when, as a Poisson process for each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pool.planning.restart import Cause
from pool.testing.actors import SimActor
from pool.testing.room import Place

if TYPE_CHECKING:
    from pool.testing.world import World

IDLE_RETRY_S = 60.0
"""Pause before a fault is tried again that found nobody to strike."""


class Strikes:
    """Let faults happen to a world.

    Args:
        world: The world, whose plan says how often.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._season = 0

    def begin(self) -> None:
        """Draw the first of each fault that comes at a rate; those drawn before are void."""
        self._season += 1
        for name, targets, strike in (
            ("actor_kills_per_h", self._running, self._strike_actor),
            ("health_hangs_per_h", self._running, self._strike_health),
            ("node_losses_per_h", self._there, self._strike_node),
            ("node_silences_per_h", self._there, self._strike_link),
            ("notices_per_h", self._there, self._strike_notice),
            ("stalls_per_h", lambda: [None], self._strike_driver),
        ):
            if getattr(self._world.faults, name):
                self._await_fault(name, targets, strike, self._season, len(targets()))

    def _await_fault(
        self,
        name: str,
        targets: Callable[[], list[Any]],
        strike: Callable[[Any], None],
        season: int,
        count: int,
    ) -> None:
        """Wait for the next of one kind of fault; `count` is how many it could strike by now."""
        rate_per_s = getattr(self._world.faults, name) * count / 3600
        delay_s = self._world.chance.of(name).expovariate(rate_per_s) if count else IDLE_RETRY_S

        def happen() -> None:
            if season != self._season:
                return
            found = targets()
            if count and found:
                strike(self._world.chance.of(name).choice(found))
            self._await_fault(name, targets, strike, season, len(found))

        self._world.later(delay_s, happen)

    def _running(self) -> list[SimActor]:
        # A driver is nobody's actor; who wants it to crash says so.
        running = [
            actor
            for actor in self._world.actors.values()
            if actor.state == "running" and actor.place is not None
        ]
        return (
            [actor for actor in running if self.may_strike(actor)]
            if self._world.spared
            else running
        )

    def may_strike(self, actor: SimActor) -> bool:
        """Whether faults may strike it."""
        return actor.place is not None and actor.place.node_id not in self._world.spared

    def _there(self) -> list[Place]:
        return [
            place
            for place in self._world.room.places.values()
            if not place.silent and place.node_id not in self._world.spared
        ]

    def _strike_actor(self, actor: SimActor) -> None:
        self._world.say(f"fault: {actor} is killed")
        self._world.die(actor, Cause.CRASH, "fault: its process was killed")

    def _strike_health(self, actor: SimActor) -> None:
        self._world.say(f"fault: {actor} stops to answer its health checks")
        actor.hung.add("check_health")

    def _strike_node(self, place: Place) -> None:
        self._world.lose_node(place, "fault")
        self._world.later(self._world.draw_s("node_return_s"), self._world.add_node, place.kind)

    def _strike_link(self, place: Place) -> None:
        for_s = self._world.draw_s("node_silent_for_s")
        self._world.silence_node(place, for_s)
        if for_s >= self._world.faults.silence_s:
            self._world.later(
                for_s + self._world.draw_s("node_return_s"), self._world.add_node, place.kind
            )

    def _strike_notice(self, place: Place) -> None:
        if place.draining:
            return
        in_s = self._world.draw_s("notice_s")
        self._world.drain_node(place, in_s)
        if self._world.hits("notice_withdrawn"):
            at_s = self._world.chance.of("notice_withdrawn").uniform(0, in_s * 0.9)
            self._world.later(at_s, self._world.undrain_node, place)
            in_s += 1
        self._world.later(in_s, self._replace, place)

    def _replace(self, place: Place) -> None:
        if self._world.room.places.get(place.node_id) is not place:
            self._world.later(self._world.draw_s("node_return_s"), self._world.add_node, place.kind)

    def _strike_driver(self, _: None) -> None:
        for_s = self._world.draw_s("stall_s")
        self._world.say(f"fault: everything stands still for {for_s:.3f} s")
        self._world.loop.stall(for_s)
