"""The work of one pool: its maps, its submitted calls, and how much of it there is."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any

from pool.dispatch.job import Limits
from pool.dispatch.map import MapOptions, MapRun
from pool.dispatch.results import Results
from pool.dispatch.submit import Submissions
from pool.dispatch.target import Targets


class Switchboard:
    """Give a pool its ways of being worked with.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: Targets) -> None:
        self._pool = pool
        self._maps: weakref.WeakSet[MapRun] = weakref.WeakSet()
        self._submissions: dict[tuple[str, Limits], Submissions] = {}

    def map(
        self,
        work: Callable[..., Any] | str,
        items: Iterable[Any] | AsyncIterable[Any],
        options: MapOptions,
    ) -> Results:
        """Begin a map; see `ReplicaPool.map`."""
        run = MapRun(self._pool, work, items, options)
        self._maps.add(run)
        return Results(run, raises=options.errors == "raise")

    def submissions(self, on: str, limits: Limits) -> Submissions:
        """Return who takes single calls within these limits."""
        if (on, limits) not in self._submissions:
            self._submissions[on, limits] = Submissions(self._pool, on, limits)
        return self._submissions[on, limits]

    @property
    def load(self) -> int:
        """Jobs in flight and waiting, of all that was begun here.

        An input that does not tell its length counts as much again as may be read of it now.
        """
        works: list[MapRun | Submissions] = [*self._maps, *self._submissions.values()]
        return sum(work.load for work in works)
