"""The faults themselves: a draw is turned into something done to somebody."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import psutil
from anyio.abc import TaskGroup

import pool
from tests.soak.hosts import slug
from tests.soak.pools import GANG, JUDGED_S, SINGLE, START_TIMEOUT_S
from tests.soak.script import Draw, Kind
from tests.soak.site import Site
from tests.soak.strikes import Ledger, Strike
from tests.soak.subject import Direct, Owned, Subject
from tests.soak.watch import Seen, live_actors

ORDER_S = 120.0
"""How long a user waits for a scale or a roll in the middle of all this."""
SIZES = {SINGLE: (1, 2, 3), GANG: (1, 2)}
BRIEFLY_S = (1.0, 2.5)
LONG_S = (JUDGED_S, JUDGED_S + 8)
NOTICE_S = (10.0, 25.0)
AWAY_S = (0.5, 8.0)

ItemT = TypeVar("ItemT")


def chosen(items: Sequence[ItemT], share: float) -> ItemT:
    """Return the item at a share of a list."""
    return items[int(share * len(items))]


def between(bounds: tuple[float, float], share: float) -> float:
    """Return the number at a share of an interval."""
    low, high = bounds
    return low + share * (high - low)


class Arsenal:
    """Throw what is drawn.

    Args:
        site: The nodes.
        direct: The pools of this process.
        owned: The detached pool.
        ledger: Where strikes are written down.
        folder: Where hosts look for what they are to do wrong.
    """

    def __init__(
        self,
        site: Site,
        direct: Sequence[Direct],
        owned: Owned,
        ledger: Ledger,
        folder: Path,
    ) -> None:
        self.thrown: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.troubles: list[str] = []
        self._site = site
        self._direct = direct
        self._owned = owned
        self._ledger = ledger
        self._folder = folder

    def throw(self, draw: Draw, tasks: TaskGroup) -> None:
        """Begin what was drawn; it goes on by itself."""
        tasks.start_soon(self._counted, draw, self._way(draw.kind))

    def _way(self, kind: Kind) -> Callable[[Draw], Awaitable[bool]]:
        match kind:
            case Kind.RAYLET_KILLED | Kind.RAYLET_ENDED | Kind.NODE_DRAINED:
                return self._lose_node
            case Kind.OWNER_KILLED:
                return self._lose_owner
            case Kind.SCALED | Kind.SCALE_CANCELLED:
                return self._scale
            case Kind.ROLLED:
                return self._roll
            case Kind.HOOK_HANGS:
                return self._hang_hook
            case _:
                return self._strike_process

    async def _counted(self, draw: Draw, do: Callable[[Draw], Awaitable[bool]]) -> None:
        try:
            is_done = await do(draw)
        except Exception as error:
            self.troubles.append(f"{draw.kind}: {error!r}")
            return
        (self.thrown if is_done else self.missed)[draw.kind] += 1

    # -- processes ----------------------------------------------------------------------------

    async def _strike_process(self, draw: Draw) -> bool:
        level = "host" if self._is_at_host(draw) else "replica"
        live = await anyio.to_thread.run_sync(live_actors)
        names = [subject.name for subject in self._subjects()]
        name = chosen(names, draw.where)
        theirs = [actor for actor in live if actor.pool == name and actor.pid]
        # The only host of a replica is the replica.
        found = sorted(
            [a for a in theirs if a.identity.level == level]
            or [a for a in theirs if a.identity.level == "replica"],
            key=lambda actor: str(actor.identity),
        )
        if not found:
            return False
        victim = chosen(found, draw.whom)
        strike = Strike(
            draw.kind,
            name,
            time.time(),
            frozenset({victim.who}),
            is_timed=name != self._owned.name or self._owned.is_here,
        )
        match draw.kind:
            case Kind.REPLICA_KILLED | Kind.HOST_KILLED:
                return self._kill(victim, strike)
            case Kind.STOPPED_BRIEFLY:
                return await self._stop(victim, strike, between(BRIEFLY_S, draw.extent))
            case Kind.STOPPED_LONG:
                return await self._stop(victim, strike, between(LONG_S, draw.extent))
            case Kind.HEALTH_HANGS:
                return await self._hang_health(victim, strike)
            case _:
                return await self._spoil_start(victim, strike)

    def _is_at_host(self, draw: Draw) -> bool:
        stops = (Kind.STOPPED_BRIEFLY, Kind.STOPPED_LONG)
        return draw.kind is Kind.HOST_KILLED or (draw.kind in stops and draw.extent < 0.5)

    def _subjects(self) -> list[Subject]:
        return [*self._direct, self._owned]

    def _kill(self, victim: Seen, strike: Strike) -> bool:
        strike.at = strike.until = time.time()
        self._ledger.add(strike)
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:
            self._ledger.strikes.remove(strike)
            return False
        return True

    async def _stop(self, victim: Seen, strike: Strike, for_s: float) -> bool:
        try:
            process = psutil.Process(victim.pid)
            process.suspend()
        except psutil.NoSuchProcess:
            return False
        strike.at = time.time()
        self._ledger.add(strike)
        try:
            await anyio.sleep(for_s)
        finally:
            strike.until = time.time()
            # NB: psutil looks at the time of creation, so that nobody else is continued.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        return True

    async def _hang_health(self, victim: Seen, strike: Strike) -> bool:
        slot, generation = victim.who
        word = self._folder / f"stuck-{slug(f'{victim.pool}/{slot}.{generation}')}"
        word.touch()
        strike.at = time.time()
        self._ledger.add(strike)
        try:
            await anyio.sleep(JUDGED_S)
        finally:
            word.unlink(missing_ok=True)
            strike.until = time.time()
        return True

    async def _spoil_start(self, victim: Seen, strike: Strike) -> bool:
        """Let the next start go wrong, and kill a replica so that there is one."""
        is_hang = strike.kind is Kind.START_HANGS
        word = self._folder / f"{'start-hangs' if is_hang else 'start-fails'}-{victim.pool}"
        word.touch()
        strike.members, strike.cause = None, "start"
        self._ledger.add(strike)
        if not self._kill(
            victim,
            Strike(
                Kind.REPLICA_KILLED,
                victim.pool,
                time.time(),
                frozenset({victim.who}),
                is_timed=strike.is_timed,
            ),
        ):
            word.unlink(missing_ok=True)
            self._ledger.strikes.remove(strike)
            return False
        with anyio.move_on_after(START_TIMEOUT_S):
            # Nobody may start for long, as when the pool has no owner.
            while word.exists():  # noqa: ASYNC110 - nobody tells of files
                await anyio.sleep(0.2)
        word.unlink(missing_ok=True)
        strike.until = time.time()
        return True

    # -- nodes and owners ---------------------------------------------------------------------

    async def _lose_node(self, draw: Draw) -> bool:
        async with self._site.lock:
            node_id = chosen(self._site.node_ids(), draw.where)
            if draw.kind is Kind.NODE_DRAINED:
                for_s = between(NOTICE_S, draw.extent)
                if not await self._site.drain(node_id, time.time() + for_s):
                    return False
                strikes = await self._strike_node(draw.kind, node_id)
                began = time.monotonic()
                await self._site.add()
                await anyio.sleep(for_s - (time.monotonic() - began))
                await self._site.remove(node_id, graceful=False)
            else:
                strikes = await self._strike_node(draw.kind, node_id)
                is_graceful = draw.kind is Kind.RAYLET_ENDED
                await self._site.remove(node_id, graceful=is_graceful)
                await self._site.add()
            for strike in strikes:
                strike.until = time.time()
        return True

    async def _strike_node(self, kind: Kind, node_id: str) -> list[Strike]:
        live = await anyio.to_thread.run_sync(live_actors)
        strikes = []
        for subject in self._subjects():
            shown = subject.look()
            slots = shown["slots"] if shown is not None else []
            members = {
                (slot["slot"], slot["generation"]) for slot in slots if node_id in slot["nodes"]
            }
            # A replica's own actor holds nothing and may be on any node; so may those of the
            # detached pool while nobody tells where they are.
            members |= {
                actor.who
                for actor in live
                if actor.pool == subject.name and actor.node_id == node_id
            }
            if members:
                is_timed = subject is not self._owned or self._owned.is_here
                strike = Strike(
                    kind, subject.name, time.time(), frozenset(members), is_timed=is_timed
                )
                strikes.append(self._ledger.add(strike))
        return strikes

    async def _lose_owner(self, draw: Draw) -> bool:
        if not self._owned.is_here:
            return False
        strike = Strike(Kind.OWNER_KILLED, self._owned.name, time.time(), is_order=True)
        self._ledger.add(strike)
        await self._owned.kill()
        await anyio.sleep(between(AWAY_S, draw.extent))
        try:
            await self._owned.begin("attach")
        except TimeoutError:
            self.troubles.append("the detached pool could not be attached to")
        strike.until = time.time()
        return True

    # -- what users do ------------------------------------------------------------------------

    def _order(self, kind: Kind, subject: Subject) -> Strike:
        return self._ledger.add(Strike(kind, subject.name, time.time(), is_order=True))

    async def _scale(self, draw: Draw) -> bool:
        subject = chosen(self._direct, draw.where)
        size = chosen(SIZES[subject.name], draw.whom)
        strike = self._order(draw.kind, subject)
        limit_s = 1.5 * draw.extent if draw.kind is Kind.SCALE_CANCELLED else ORDER_S + 30
        with anyio.move_on_after(limit_s):
            try:
                await subject.replicas.scale(size, timeout_s=ORDER_S)
            except pool.PoolError as error:
                self.troubles.append(f"{subject.name}.scale({size}): {error!r}")
        strike.until = time.time()
        return True

    async def _roll(self, draw: Draw) -> bool:
        subject = chosen(self._direct, draw.where)
        strike = self._order(draw.kind, subject)
        try:
            await subject.replicas.roll(timeout_s=ORDER_S)
        except pool.PoolError as error:
            self.troubles.append(f"{subject.name}.roll(): {error!r}")
        strike.until = time.time()
        return True

    async def _hang_hook(self, draw: Draw) -> bool:
        """Let the next shutdown hook hang, and scale down so that there is one."""
        subject = self._direct[0]
        now = subject.replicas.desired
        word = self._folder / f"hook-hangs-{subject.name}"
        word.touch()
        strike = self._order(draw.kind, subject)
        try:
            await subject.replicas.scale(now - 1 if now > 1 else 2, timeout_s=ORDER_S)
            if now == 1:
                await subject.replicas.scale(1, timeout_s=ORDER_S)
        except pool.PoolError as error:
            self.troubles.append(f"{subject.name}, with a hook that hangs: {error!r}")
        strike.until = time.time()
        return True
