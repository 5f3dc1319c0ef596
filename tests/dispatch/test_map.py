"""The dispatcher of `map`, on a pool that does what hypothesis wants, in virtual time.

Safety: nothing is lost, doubled or out of order, and the bounds hold. Progress: it ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.cluster.interface import Actor, Fault, Identity
from pool.dispatch.map import WINDOW, MapOptions, MapRun
from pool.dispatch.results import Results
from pool.dispatch.target import Target
from pool.errors import ConfigError, MemberLost, NotAdmitted, PoolFailed
from pool.host.labour import Failure
from pool.planning.restart import Cause
from pool.testing import run

POISON = -1
UNSENDABLE = -2
"""Stands for what cannot be pickled."""


@dataclass
class FakeMember:
    """Be a member that takes calls until the script says otherwise."""

    number: int
    is_serving: bool = True
    alive: bool = True
    admits: bool = True
    in_flight: int = 0
    peak: int = 0

    @property
    def actor(self) -> Actor:
        identity = Identity(pool="fake", instance="x", slot=self.number, generation=1)
        return Actor(f"actor-{self.number}", identity, self)

    def call_began(self) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def call_ended(self) -> None:
        self.in_flight -= 1

    def call_lost(self, cause: str, detail: str) -> None:
        pass

    def on_parted(self, listener: Callable[[Fault], object]) -> Callable[[], object]:
        return lambda: None


@dataclass
class FakePool:
    """Be a pool whose members die, refuse and come back as they are told."""

    tasks: TaskGroup
    call_s: Callable[[int], float]
    members: list[FakeMember] = field(default_factory=list)
    listeners: list[Callable[[], object]] = field(default_factory=list)
    failed: PoolFailed | None = None
    ran: Counter[int] = field(default_factory=Counter)
    cluster: Any = None
    name: str = "fake"

    def __post_init__(self) -> None:
        self.cluster = self

    def targets(self, on: str) -> list[Target]:
        return [Target(one.actor, one) for one in self.members if one.is_serving]

    def on_change(self, listener: Callable[[], object]) -> Callable[[], object]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def spawn(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.tasks.start_soon(task)

    def change(self) -> None:
        for listener in list(self.listeners):
            listener()

    def add(self) -> None:
        self.members.append(FakeMember(len(self.members)))
        self.change()

    async def die(self, one: FakeMember, known_in_s: float) -> None:
        """Die now; the pool hears of it later, and has another by then."""
        if one.alive:
            one.alive = False
            await anyio.sleep(known_in_s)
            one.is_serving = False
            self.add()

    def bulky(self, value: Any) -> Any:
        return value

    def begin(
        self, actor: Actor, method: str, *args: Any, done: Callable[..., None]
    ) -> Callable[[], None]:
        async def call() -> None:
            try:
                for (sent,) in args[-1]:
                    if sent == UNSENDABLE or (isinstance(sent, list) and UNSENDABLE in sent):
                        raise ConfigError("it cannot be pickled")
                result = await self.do_jobs(actor.handle, *args)
            except Exception as error:
                done(None, error)
            else:
                done(result, None)

        self.tasks.start_soon(call)
        return lambda: None

    async def do_jobs(
        self, one: FakeMember, work: str, jobs: list[tuple[Any, ...]]
    ) -> tuple[float, list[Any]]:
        """Do the jobs of a call one after the other, and hand back what would come too late."""
        outcomes: list[Any] = []
        took_s = 0.0
        for (item,) in jobs:
            took_s += self.call_s(item)
            try:
                outcomes.append(await self.do(one, item))
            except ValueError as error:
                outcomes.append(Failure(error, "here"))
            if took_s > 0.005:
                break
        return took_s, outcomes

    async def do(self, one: FakeMember, item: Any) -> Any:
        if isinstance(item, list):
            return [await self.do(one, each) for each in item]
        if not one.alive:
            await anyio.lowlevel.checkpoint()
            raise MemberLost("fake", Cause.CRASH, "was dead before")
        if not one.admits:
            raise NotAdmitted("it drains")
        left_s = self.call_s(item)
        if item == POISON:
            self.tasks.start_soon(self.die, one, 0.5)
        while left_s > 0 or item == POISON:
            await anyio.sleep(min(left_s, 0.05))
            left_s -= 0.05
            if not one.alive:
                raise MemberLost("fake", Cause.CRASH, "died under the call")
        self.ran[item] += 1
        if item % 11 == 7:
            raise ValueError(item)
        return item * 2


@dataclass(frozen=True)
class Trouble:
    """Say what happens to which member, and when."""

    after_s: float
    what: str
    member: int
    lasts_s: float


TROUBLES = st.lists(
    st.builds(
        Trouble,
        after_s=st.floats(0, 1),
        what=st.sampled_from(["die", "die", "drain", "grow"]),
        member=st.integers(0, 5),
        lasts_s=st.floats(0.01, 0.5),
    ),
    max_size=8,
)


async def collect(results: Results) -> list[Any]:
    return [out async for out in results]


async def make_trouble(fake: FakePool, troubles: list[Trouble]) -> None:
    for trouble in troubles:
        await anyio.sleep(trouble.after_s)
        serving = [one for one in fake.members if one.is_serving and one.alive]
        if trouble.what == "grow" or not serving:
            fake.add()
            continue
        one = serving[trouble.member % len(serving)]
        if trouble.what == "die":
            fake.tasks.start_soon(fake.die, one, trouble.lasts_s)
        else:
            one.admits = False
            await anyio.sleep(trouble.lasts_s)
            one.is_serving = False
            fake.add()


@given(
    length=st.integers(0, 60),
    members=st.integers(1, 4),
    in_flight=st.integers(1, 4),
    seconds=st.lists(st.floats(0, 0.4), min_size=1, max_size=7),
    troubles=TROUBLES,
    poisoned=st.sets(st.integers(0, 59), max_size=2),
    attempts=st.integers(1, 3),
    ordered=st.booleans(),
)
@settings(max_examples=150)
def test_every_item_comes_once_and_in_order_whatever_happens_to_the_members(
    length: int,
    members: int,
    in_flight: int,
    seconds: list[float],
    troubles: list[Trouble],
    poisoned: set[int],
    attempts: int,
    ordered: bool,
) -> None:
    # An item may lose a member to each trouble, and one to the poison beside which it was first
    # sent; then it is sent alone. Only poison may use all its attempts up.
    attempts += 1 + sum(trouble.what == "die" for trouble in troubles)
    items = [POISON if number in poisoned else number for number in range(length)]
    read = 0

    def given_items() -> Iterator[int]:
        nonlocal read
        for item in items:
            read += 1
            yield item

    outs: list[Any] = []

    async def main() -> FakePool:
        async with anyio.create_task_group() as tasks:
            fake = FakePool(tasks, lambda item: seconds[item % len(seconds)])
            for _ in range(members):
                fake.add()
            options = MapOptions(
                on="host",
                in_flight=in_flight,
                errors="return",
                attempts=attempts,
                ordered=ordered,
            )
            results = Results(MapRun(fake, "work", given_items(), options), raises=False)
            tasks.start_soon(make_trouble, fake, troubles)
            async for out in results:
                outs.append(out)
                most = max(members, len(fake.members))
                assert read - len(outs) <= WINDOW * in_flight * most
            tasks.cancel_scope.cancel()
            return fake
        raise AssertionError("not reached")

    fake = run(main, limit_s=3600)
    assert len(outs) == length
    wanted = [
        "lost" if item == POISON else "failed" if item % 11 == 7 else item * 2 for item in items
    ]
    seen = [
        "lost" if isinstance(out, MemberLost) else "failed" if isinstance(out, ValueError) else out
        for out in outs
    ]
    assert seen == wanted if ordered else Counter(seen) == Counter(wanted)
    assert all(one.peak <= in_flight for one in fake.members)
    assert fake.listeners == []
    # Run again only for those whose answer a member's death cut off.
    deaths = sum(trouble.what == "die" for trouble in troubles) + attempts * len(poisoned)
    most = 1 if in_flight == 1 else 1 + deaths
    assert all(times <= most for item, times in fake.ran.items() if item != POISON)


def test_a_pool_that_gives_up_ends_the_map_and_not_with_a_wait() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            fake = FakePool(tasks, lambda item: 0.1)
            fake.add()
            options = MapOptions(on="host", in_flight=1, attempts=9)
            results = Results(MapRun(fake, "work", iter(int, 1), options))
            assert [await anext(results) for _ in range(3)] == [0, 0, 0]
            fake.members[0].alive = fake.members[0].is_serving = False
            fake.failed = PoolFailed("fake", "crash")
            fake.change()
            with pytest.raises(PoolFailed) as caught, anyio.fail_after(60):
                await collect(results)
            assert caught.value is fake.failed

    run(main, limit_s=3600)


@pytest.mark.parametrize("batch", [None, 5])
@pytest.mark.parametrize("ordered", [True, False])
def test_what_cannot_be_sent_fails_alone(batch: int | None, ordered: bool) -> None:
    """Also among jobs that share a call, and in a batch, of which nothing was done."""

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            fake = FakePool(tasks, lambda item: 0.0)
            fake.add()
            items = [item for item in range(1, 60) if item % 11 != 7]
            items.insert(40, UNSENDABLE)
            options = MapOptions(
                on="host", in_flight=8, batch=batch, ordered=ordered, errors="return", attempts=2
            )
            with anyio.fail_after(60):
                outs = await collect(
                    Results(MapRun(fake, "work", iter(items), options), raises=False)
                )
            failed = [out for out in outs if isinstance(out, Exception)]
            assert [type(out) for out in failed] == [ConfigError]
            assert outs.index(failed[0]) == 40 or not ordered
            values = [out for out in outs if out not in failed]
            assert sorted(values) == [2 * item for item in items if item != UNSENDABLE]
            assert [one.in_flight for one in fake.members] == [0]

    run(main, limit_s=3600)
