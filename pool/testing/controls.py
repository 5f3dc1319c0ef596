"""What a test sees of a simulated cluster, and what it lets happen to it.

The other half of `SimulatedCluster`: managers use its cluster interface, tests use this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pool.cluster.interface import (
    Actor,
    Cluster,
    Identity,
    Reply,
    ReplyKind,
)
from pool.errors import (
    ConfigError,
)
from pool.manager.events import Event
from pool.manager.manager import ResourcePoolManager
from pool.planning.restart import Cause
from pool.testing.actors import Process, SimActor
from pool.testing.faults import FaultPlan
from pool.testing.room import Place, SimNode
from pool.testing.world import World

HEALTHY = Reply(ReplyKind.ANSWER)


class Controls:
    """Look into a simulated cluster, and do things to it."""

    _world: World
    _seen_from: Callable[[SimActor], Cluster]

    # -- what a test sees ---------------------------------------------------------------------

    def left(self, pool: str | None = None, instance: str | None = None) -> list[str]:
        """Return, as text, every live actor and every group; of one pool, if it is named."""

        def is_meant(identity: Identity) -> bool:
            if pool is None:
                return True
            is_named = identity.pool == pool or identity.pool.startswith(f"{pool}/")
            return is_named and instance in (None, identity.instance)

        actors = [a for a in self._world.actors.values() if is_meant(a.spec.identity)]
        groups = [g for g in self._world.room.groups.values() if is_meant(g.identity)]
        return [f"actor {actor}" for actor in actors] + [
            f"placement group {group.id} of {group.identity.member}" for group in groups
        ]

    @property
    def world(self) -> World:
        """The books: nodes, groups, actors. For invariants, and for looking into."""
        return self._world

    @property
    def nodes(self) -> list[str]:
        """The ids of the nodes that are there."""
        return list(self._world.room.places)

    @property
    def log(self) -> list[str]:
        """What happened, a line each, oldest first."""
        return list(self._world.log)

    @property
    def digest(self) -> str:
        """A hash of the whole log, that is the same for the same run."""
        return self._world.digest.hexdigest()

    def story(self, lines: int = 60) -> str:
        """Return the end of the log."""
        return "\n".join(self.log[-lines:])

    def note(self, text: str) -> None:
        """Write a line into the log."""
        self._world.say(text)

    def listen(self, pool: ResourcePoolManager[Any]) -> Callable[[], None]:
        """Write a pool's events into the log, too; returns a function that ends it."""

        def write(event: Event) -> None:
            # The instance is a random word, and would make two equal runs differ.
            text = str(event).replace(f"instance={pool.instance}", "instance=*")
            self.note(f"pool {event.pool}: {text}")

        return pool.follow(write)

    # -- what a test does ---------------------------------------------------------------------

    @property
    def faults(self) -> FaultPlan:
        """How long things take, and what goes wrong, from now on. It can be set."""
        return self._world.faults

    @faults.setter
    def faults(self, plan: FaultPlan) -> None:
        self._world.faults = plan
        self._world.say(f"faults: {plan!r}")
        self._world.strikes.begin()

    def add_node(self, kind: SimNode | None = None) -> str:
        """Let a node join, and return its id."""
        return self._world.add_node(kind or SimNode(gpus=8))

    def lose_node(self, node_id: str) -> None:
        """Take a node away without notice, with all that runs on it."""
        self._world.lose_node(self._place(node_id), "it was taken away")

    def spare_node(self, node_id: str) -> None:
        """Let no fault strike a node, or what runs on it."""
        self._world.spared.add(self._place(node_id).node_id)

    def stop_control(self, for_s: float) -> None:
        """Let the cluster's own control be away, as a GCS that is started again elsewhere.

        Actors run on and answer. Nothing is placed, started, killed or told of as dead meanwhile.
        """
        self._world.stop_control(for_s)

    def silence_node(self, node_id: str, for_s: float) -> None:
        """Cut a node off; after `FaultPlan.silence_s` seconds the cluster gives it up."""
        self._world.silence_node(self._place(node_id), for_s)

    def drain_node(self, node_id: str, in_s: float | None = None) -> None:
        """Give notice of a node, that goes in so many seconds."""
        self._world.drain_node(self._place(node_id), in_s)

    def undrain_node(self, node_id: str) -> None:
        """Withdraw a node's notice."""
        self._world.undrain_node(self._place(node_id))

    def _place(self, node_id: str) -> Place:
        place = self._world.room.places.get(node_id)
        if place is None:
            raise ConfigError(f"node {node_id!r} is not there; there are {self.nodes}", "node_id")
        return place

    def crash(self, actor: Actor, detail: str = "its process was killed") -> None:
        """Kill an actor from outside, as `kill -9` does; without effect on one that is dead."""
        record = self._world.actors.get(actor.id)
        if record is not None:
            self._world.die(record, Cause.CRASH, detail)

    def hang(self, actor: Actor, *methods: str) -> None:
        """Let methods of an actor never return again; `check_health` if none is named."""
        record = self._world.find(actor)
        if record is not None:
            self._world.say(f"{record} hangs in {', '.join(methods) or 'check_health'}")
            record.hung.update(methods or ("check_health",))

    def unhang(self) -> None:
        """Let all that hangs answer again, from the next call on."""
        for record in self._world.actors.values():
            if record.hung:
                record.hung.clear()
                record.spoilt_at = self._world.now

    def stall(self, duration_s: float) -> None:
        """Let time pass in which nothing runs: the driver was stopped."""
        self._world.say(f"everything stands still for {duration_s:g} s")
        self._world.loop.stall(duration_s)

    def actors(self, level: str | None = None) -> list[Actor]:
        """Return the live actors, of one level if it is named, the oldest first."""
        return [
            actor.handle
            for actor in self._world.actors.values()
            if level in (None, actor.spec.identity.level)
        ]

    def drive(self, main: Callable[[Any], Awaitable[None]]) -> Actor:
        """Run a driver of its own: a process outside of the cluster's nodes, that can crash.

        Args:
            main: What it does, with the cluster as it sees it.

        Returns:
            Its handle, for `crash`. What it owns, and did not detach, ends with it.
        """
        return self._world.start_driver(main, self._seen_from).handle

    def freeze_driver(self, driver: Actor, for_s: float) -> None:
        """Let a driver stand still without dying, as when it is stopped, or its link is cut.

        What it owns lives on: only its leases can tell that nobody looks after it.

        Args:
            driver: What `drive` returned.
            for_s: Seconds.
        """
        record = self._world.actors.get(driver.id)
        if not isinstance(record, Process):
            raise ConfigError(f"{driver} is not a driver that runs", "driver")
        self._world.freeze_process(record, for_s)
