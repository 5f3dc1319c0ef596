"""The actors that a host starts one by one: kept alive, heard of, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from pool.cluster.interface import Actor, ActorSpec, Death, Fault, News
from pool.host.staffing import Staffing

DISMISSED_WITHIN_S = 10.0
"""An actor on our own node that was killed is dead long before; nobody waits for ever."""


class Hand:
    """One actor of a crew.

    Attributes:
        actor: The actor.
        death: Why it is dead; None while it may live.
    """

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.death: Fault | None = None
        self._gone = asyncio.Event()

    async def gone(self) -> Fault:
        """Wait until it is dead for good, and return why."""
        await self._gone.wait()
        assert self.death is not None
        return self.death

    def bury(self, fault: Fault) -> None:
        """Note that it is dead."""
        self.death = fault
        self._gone.set()


class Crew:
    """Keep the actors that a host started by itself.

    Args:
        staffing: Describes them.
    """

    def __init__(self, staffing: Staffing) -> None:
        self._staffing = staffing
        self._cluster = staffing.context.cluster
        self._hands: dict[str, Hand] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._count = 0

    def next_number(self) -> int:
        """Return a number that no actor of the crew has had."""
        self._count += 1
        return self._count

    async def hire(self, spec: ActorSpec, hear: Callable[[News], object] | None = None) -> Hand:
        """Initiate the start of an actor.

        Args:
            spec: What it is.
            hear: Is told its news.

        A cancellation comes after that; then the actor is ended, and waited for: what it held is
        free when this returns.
        """
        hand: Hand | None = None
        with anyio.CancelScope(shield=True):
            hand = Hand(await self._cluster.start(spec))
        assert hand is not None
        self._hands[hand.actor.id] = hand
        self.spawn(self._listen(hand, hear))
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_forever())
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException:
            with anyio.move_on_after(DISMISSED_WITHIN_S, shield=True):
                await self.dismiss(hand)
            raise
        return hand

    async def dismiss(self, hand: Hand) -> None:
        """Kill an actor, and return when it is dead."""
        if hand.death is None:
            self._cluster.kill(hand.actor)
        await hand.gone()

    async def close(self) -> None:
        """Kill all of them, and return when all are dead; a cluster that never says so is left."""
        with anyio.move_on_after(DISMISSED_WITHIN_S):
            async with anyio.create_task_group() as tasks:
                for hand in list(self._hands.values()):
                    tasks.start_soon(self.dismiss, hand)
        if self._renewing is not None:
            self._renewing.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task for as long as the host lives."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, hand: Hand, hear: Callable[[News], object] | None) -> None:
        seen = 0
        while not isinstance(news := await self._cluster.lifeline(hand.actor, seen), Death):
            seen = news.version
            if hear is not None:
                hear(news)
        del self._hands[hand.actor.id]
        hand.bury(news.fault)

    async def _renew_forever(self) -> None:
        """Let them hear from their host, whom they cannot outlive by much."""
        period_s = self._staffing.plan.policies.health.period_s
        while True:
            actors = [hand.actor for hand in self._hands.values()]
            self._cluster.renew(actors, self._staffing.lease)
            await asyncio.sleep(period_s)
