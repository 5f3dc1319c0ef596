"""`View`: some replicas of a pool, or of several, worked with as if they were one pool.

A view holds ranks, not members: when a replica is replaced, its successor has its rank and is in
the view. It owns nothing, and cannot be scaled.

Why not smaller pools: a pool is what is kept at a size, with one policy; who works with which part
of it may change from one phase of a program to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from pool.dispatch.switchboard import Switchboard
from pool.errors import ConfigError, PoolFailed
from pool.planning.resources import as_whole
from pool.replica.work import Served, Work

if TYPE_CHECKING:
    from pool.replica.replica_pool import ReplicaPool


class View(Work):
    """Work with some replicas: with `map`, `submit`, `broadcast`, `run`, as with the whole pool.

    Get one from a pool: `replicas[0:4]` has those with the ranks 0 to 3.

    Args:
        parts: Pools, each with the ranks that are in the view.
    """

    def __init__(self, parts: Sequence[tuple[ReplicaPool, Sequence[int]]]) -> None:
        self._parts = tuple((pool, tuple(ranks)) for pool, ranks in parts)
        first = self._parts[0][0]
        self.cluster = first.cluster
        self.name = " + ".join(f"{pool.name}[{_said(ranks)}]" for pool, ranks in self._parts)
        self._switchboard = Switchboard(self)

    def __repr__(self) -> str:
        return f"View({self.name!r})"

    def __len__(self) -> int:
        """Return how many ranks are in it, whether somebody has them now or not."""
        return sum(len(ranks) for _, ranks in self._parts)

    def split(self, *sizes: int) -> list[View]:
        """Divide it, in the order of its ranks.

        Args:
            *sizes: How many replicas each part has; together as many as there are.

        Raises:
            ConfigError: They add up to another number.
        """
        if sum(as_whole(size, "sizes", at_least=1) for size in sizes) != len(self):
            raise ConfigError(
                f"sizes is {sizes}, which is {sum(sizes)} in all, and the view has {len(self)} "
                "replicas; give sizes that add up to that",
                "sizes",
            )
        each = [(pool, rank) for pool, ranks in self._parts for rank in ranks]
        views = []
        for size in sizes:
            views.append(_view_of(each[:size]))
            del each[:size]
        return views

    def __or__(self, other: View) -> View:
        """Return both together, of one pool or of several.

        Raises:
            ConfigError: A replica is in both.
        """
        each = [
            (pool, rank) for one in (self, other) for pool, ranks in one._parts for rank in ranks
        ]
        if len(set(each)) < len(each):
            raise ConfigError(f"{self.name} and {other.name} have replicas in common", "other")
        return _view_of(each)

    def __getitem__(self, part: slice) -> View:
        """Return a view of some of its replicas, counted in its own order."""
        return _view_of([(pool, rank) for pool, ranks in self._parts for rank in ranks][part])

    # -- what work needs -----------------------------------------------------------------------

    def at_work(self) -> Served:
        return [
            (pool, member)
            for pool, ranks in self._parts
            for its, member in pool.at_work()
            if member.slot.rank in ranks and its is pool
        ]

    def on_change(self, listener: Callable[[], object]) -> Callable[[], object]:
        """Call `listener` whenever something about one of its pools changes."""
        ends = [pool.on_change(listener) for pool, _ in self._parts]

        def end() -> None:
            for each in ends:
                each()

        return end

    def spawn(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task for as long as the first of its pools is open."""
        self._parts[0][0].spawn(task)

    @property
    def failed(self) -> PoolFailed | None:
        """Why one of its pools gave up; None while none has."""
        return next((pool.failed for pool, _ in self._parts if pool.failed is not None), None)

    def _check_open(self) -> None:
        for pool, _ in self._parts:
            pool._check_open()


def _view_of(each: Sequence[tuple[ReplicaPool, int]]) -> View:
    if not each:
        raise ConfigError("a view of no replica; give ranks that the pool has", "ranks")
    ranks: dict[ReplicaPool, list[int]] = {}
    for pool, rank in each:
        ranks.setdefault(pool, []).append(rank)
    return View(tuple(ranks.items()))


def _said(ranks: Sequence[int]) -> str:
    if len(ranks) > 1 and list(ranks) == list(range(ranks[0], ranks[-1] + 1)):
        return f"{ranks[0]}:{ranks[-1] + 1}"
    return ", ".join(map(str, ranks))
