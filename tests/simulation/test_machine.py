"""The manager as a state machine: hypothesis does whatever it likes to a pool, step by step.

After each step every invariant is checked. At the end nothing goes wrong any more, the pool has to
settle within its bound, and then to close with nothing left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import pool
from pool.planning.rolling import RollPolicy
from pool.testing import FaultPlan, SimNode, SimulatedCluster, VirtualTime
from pool.testing.watch import Watch
from tests.simulation.scenario import CONVERGES_S, LINGERS_S

SPANS_S = st.sampled_from([0.003, 0.05, 0.7, 1.1, 2.0, 6.0, 17.0, 40.0, 130.0])
PICKS = st.integers(0, 1000)


class PoolMachine(RuleBasedStateMachine):
    """Let things happen to a replica pool on a simulated cluster."""

    @initialize(
        seed=st.integers(0, 2**16),
        nodes=st.integers(2, 6),
        hosts=st.sampled_from([1, 1, 2]),
        surge=st.integers(0, 2),
        spares=st.integers(0, 2),
        lease_s=st.sampled_from([21.0, 60.0]),
        intensity=st.sampled_from([0, 2, 1000, 1000]),
        begin_with=st.sampled_from(["nothing", "some", "all"]),
    )
    def open(
        self, seed: int, nodes: int, hosts: int, begin_with: str, spares: int, **options: Any
    ) -> None:
        self.virtual = VirtualTime(seed=seed, limit_s=1e6)
        # The spares have room beside the rest, or the pool would never settle.
        self.nodes = nodes + spares * hosts
        self.most = nodes // hosts
        self.opened = False
        self.virtual.run(lambda: self._open(seed, hosts, spares=spares, **options))
        self.opened = True
        size = {"nothing": 0, "some": (self.most + 1) // 2, "all": self.most}[begin_with]
        if size:
            self.virtual.run(lambda: self.pool.scale(size))

    async def _open(self, seed: int, hosts: int, intensity: int, **options: Any) -> None:
        self.cluster = SimulatedCluster([SimNode(gpus=8)] * self.nodes, seed=seed)
        self.pool = pool.ReplicaPool(
            "r",
            shape=pool.ReplicaShape(devices=8 * hosts, cpus_per_device=1),
            cluster=self.cluster,
            start_timeout_s=60,
            restart=pool.RestartPolicy(intensity=intensity),
            **options,
        )
        self.cluster.listen(self.pool)
        self.watch = Watch(self.pool, self.cluster)
        self.closing = anyio.Event()
        self.scaling: list[asyncio.Task[None]] = []
        is_open = anyio.Event()
        self.holder = asyncio.create_task(self._hold(is_open))
        await is_open.wait()

    async def _hold(self, is_open: anyio.Event) -> None:
        async with self.pool:
            is_open.set()
            await self.closing.wait()

    def do(self, step: Callable[[], Any]) -> None:
        """Do something inside of the loop."""

        async def main() -> None:
            result = step()
            if isinstance(result, Awaitable):
                await result

        self.virtual.run(main)

    def pick(self, things: list[Any], number: int) -> Any:
        return things[number % len(things)]

    # -- what the driver does -----------------------------------------------------------------

    @rule(number=PICKS, many=st.booleans(), limit_s=st.sampled_from([0.5, 30.0, 600.0]))
    def scale(self, number: int, many: bool, limit_s: float) -> None:
        size: Any = number % (self.most + 1)
        if many and size:
            size = sorted({1, size})

        async def scale() -> None:
            try:
                await self.pool.scale(size, timeout_s=limit_s)
            except (pool.SizeUnreachable, pool.InfeasibleError, pool.PoolClosed) as error:
                self.cluster.note(f"the driver is told: {type(error).__name__}")

        async def begin() -> None:
            self.scaling.append(asyncio.create_task(scale()))
            await asyncio.sleep(0)

        self.do(begin)

    @rule(
        surge=st.integers(0, 2),
        max_unavailable=st.integers(0, 2),
        back=st.booleans(),
        limit_s=st.sampled_from([0.5, 30.0, 600.0]),
    )
    def roll(self, surge: int, max_unavailable: int, back: bool, limit_s: float) -> None:
        """Roll to a new revision, or back to the one before."""
        policy = RollPolicy(surge=surge, max_unavailable=max_unavailable or int(not surge))

        async def roll() -> None:
            turn = self.pool.roll_back if back else self.pool.roll
            try:
                await turn(policy, timeout_s=limit_s)
            except (pool.PoolFailed, pool.PoolClosed) as error:
                self.cluster.note(f"the driver is told: {type(error).__name__}")

        async def begin() -> None:
            self.scaling.append(asyncio.create_task(roll()))
            await asyncio.sleep(0)

        self.do(begin)

    @precondition(lambda self: self.pool.roll_policy is not None)
    @rule(after_s=SPANS_S)
    def pause_roll(self, after_s: float) -> None:
        self.do(self.pool.pause_roll)
        self.virtual.advance(after_s)

    @precondition(lambda self: self.pool.roll_policy is not None)
    @rule()
    def resume_roll(self) -> None:
        self.do(self.pool.resume_roll)

    @precondition(lambda self: self.scaling)
    @rule(number=PICKS)
    def cancel(self, number: int) -> None:
        """INV-11."""

        async def cancel() -> None:
            task = self.scaling.pop(number % len(self.scaling))
            task.cancel()
            await asyncio.wait([task])

        self.do(cancel)

    @rule(duration_s=SPANS_S)
    def wait(self, duration_s: float) -> None:
        self.virtual.advance(duration_s)

    # -- what happens to it -------------------------------------------------------------------

    @precondition(lambda self: self.cluster.actors())
    @rule(number=PICKS, after_s=SPANS_S)
    def kill(self, number: int, after_s: float) -> None:
        self.do(lambda: self.cluster.crash(self.pick(self.cluster.actors(), number)))
        self.virtual.advance(after_s)

    @precondition(lambda self: self.cluster.actors())
    @rule(
        number=PICKS,
        method=st.sampled_from(["check_health", "start", "drain", "shutdown", "restore"]),
        after_s=SPANS_S,
    )
    def hang(self, number: int, method: str, after_s: float) -> None:
        self.do(lambda: self.cluster.hang(self.pick(self.cluster.actors(), number), method))
        self.virtual.advance(after_s)

    @precondition(lambda self: self.used_nodes())
    @rule(number=PICKS, after_s=SPANS_S)
    def lose_node(self, number: int, after_s: float) -> None:
        self.do(lambda: self.cluster.lose_node(self.pick(self.used_nodes(), number)))
        self.virtual.advance(after_s)

    @precondition(lambda self: len(self.cluster.nodes) <= self.nodes)
    @rule()
    def add_node(self) -> None:
        self.do(self.cluster.add_node)

    @precondition(lambda self: self.used_nodes())
    @rule(number=PICKS, in_s=st.sampled_from([None, 0.5, 20.0, 45.0, 200.0]), after_s=SPANS_S)
    def notice(self, number: int, in_s: float | None, after_s: float) -> None:
        """Give notice of a node with a member on it, and let some time pass."""
        self.do(lambda: self.cluster.drain_node(self.pick(self.used_nodes(), number), in_s))
        self.virtual.advance(after_s)

    @precondition(lambda self: any(place.draining for place in self.places()))
    @rule()
    def withdraw(self) -> None:
        def withdraw() -> None:
            for node in self.cluster.nodes:
                self.cluster.undrain_node(node)

        self.do(withdraw)

    def places(self) -> list[Any]:
        return list(self.cluster.world.room.places.values())

    def used_nodes(self) -> list[str]:
        return [place.node_id for place in self.places() if place.groups and not place.draining]

    @precondition(lambda self: self.cluster.nodes)
    @rule(number=PICKS, for_s=st.sampled_from([0.5, 8.0, 60.0, 200.0]), after_s=SPANS_S)
    def silence(self, number: int, for_s: float, after_s: float) -> None:
        self.do(lambda: self.cluster.silence_node(self.pick(self.cluster.nodes, number), for_s))
        self.virtual.advance(after_s)

    @rule(chance=st.sampled_from([0.0, 0.0, 0.2, 1.0]))
    def let_starts_fail(self, chance: float) -> None:
        def turn() -> None:
            self.cluster.faults = FaultPlan(start_fails=chance)

        self.do(turn)

    # -- what must hold -----------------------------------------------------------------------

    @invariant()
    def invariants_hold(self) -> None:
        if getattr(self, "opened", False):
            self.do(self.watch.check)

    def teardown(self) -> None:
        if not getattr(self, "opened", False):
            return
        try:
            self.do(self._settle)
            self.do(self._close)
        except BaseException as error:
            error.add_note(self.cluster.story())
            raise
        finally:
            self.virtual.close()

    async def _settle(self) -> None:
        for task in self.scaling:
            task.cancel()
        self.pool.resume_roll()
        self.cluster.faults = FaultPlan()
        for node in self.cluster.nodes:
            self.cluster.undrain_node(node)
        for _ in range(self.nodes - len(self.cluster.nodes)):
            self.cluster.add_node()
        self.cluster.unhang()
        # Silent nodes are lost, or heard again, by then, and who was cut off is over.
        await anyio.sleep(LINGERS_S)
        for _ in range(self.nodes - len(self.cluster.nodes)):
            self.cluster.add_node()
        # A roll that replaces first has to have room for one more than the pool's size.
        self.cluster.add_node()
        await self.pool.scale(self.most, timeout_s=CONVERGES_S)
        await self.pool.wait_settled(CONVERGES_S)
        await anyio.sleep(60)
        said = len(self.pool.events())
        await anyio.sleep(300)
        self.watch.check()
        # INV-5: from a settled state nothing is planned, and nobody moves.
        assert self.pool.is_settled
        assert not self.pool.events()[said:]

    async def _close(self) -> None:
        self.closing.set()
        await self.holder
        self.watch.check_closed()
        assert not self.cluster.left()


TestPool = PoolMachine.TestCase
TestPool.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
