"""Parts that tests of the manager's parts share: a member, and hooks that do as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio

from pool.cluster.interface import Actor, ActorSpec, Death, Fault, Identity, Lease, Reservation
from pool.manager.hooks import Hooks
from pool.manager.member import Incarnation, Slot
from pool.planning.lifecycle import Lifecycle, State
from pool.planning.restart import Cause

IDENTITY = Identity(pool="p", instance="abc", slot=0, generation=1)


def member(*, nodes: tuple[str, ...] = ("n1",)) -> Incarnation[str]:
    """Return a member that got ready."""
    life = Lifecycle(IDENTITY.member, 0)
    life.advance(State.STARTING, "its reservation is ready", 0)
    life.advance(State.READY, "it started", 0)
    made = Incarnation[str](IDENTITY, life, Slot(0))
    made.reservation = Reservation("group", nodes, ())
    made.actor = Actor("actor", IDENTITY)
    made.info = "info"
    made.has_opened = True
    made.ready_since = 0
    made.brought_up.set()
    return made


class Told(Hooks[str]):
    """Take as long, or raise what, a test says; and write down what was asked for, and when."""

    def __init__(self, one: Incarnation[str], **ways: float | Exception) -> None:
        self.member = one
        self.ways = ways
        self.steps: list[tuple[str, float]] = []
        self.budgets: dict[str, float] = {}
        self.troubles: Sequence[str] = ()
        self.cluster: Any = self

    async def lifeline(self, actor: Actor, seen: int) -> Death:
        """Be the cluster's, for who has to ask anew."""
        self.steps.append(("lifeline", anyio.current_time()))
        return Death(Fault(Cause.CRASH, "killed"))

    @property
    def lease(self) -> Lease:
        return Lease(lasts_s=60, grace_s=30)

    async def _do(self, step: str, budget_s: float) -> None:
        self.steps.append((step, anyio.current_time()))
        self.budgets[step] = budget_s
        way = self.ways.get(step, 0.0)
        if isinstance(way, Exception):
            raise way
        await anyio.sleep(way)

    async def describe_member(
        self, identity: Identity, reservation: Reservation | None
    ) -> ActorSpec:
        raise NotImplementedError

    async def drain_member(self, actor: Actor, budget_s: float) -> None:
        await self._do("drain", budget_s)

    async def shutdown_member(self, actor: Actor, budget_s: float) -> Sequence[str]:
        await self._do("hook", budget_s)
        return self.troubles

    def kill_member(self, actor: Actor, info: Any) -> None:
        self.steps.append(("kill", anyio.current_time()))
        if "death" not in self.ways:
            self.member.dead.set()

    async def release(self, reservation: Reservation) -> None:
        await self._do("release", 0)
