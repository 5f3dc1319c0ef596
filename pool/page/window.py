"""Follow a pool of another process through its window, for a page of it.

A cluster that does not answer, and a pool that is gone, are no end: the page keeps what was seen
last, says so, and goes on with the next pool of that name.
"""

from __future__ import annotations

import anyio

from pool.cluster.interface import Observer
from pool.control.window import PoolView, events_of, find
from pool.errors import ConfigError, PoolUnknown, SourceUnavailable
from pool.page.board import Board
from pool.page.story import event_json
from pool.window.codec import to_json

PERIOD_S = 1.0
"""As often as owners show their pools, at the most."""
_SAID = {
    "closing": "the pool closes",
    "no owner": "nobody owns the pool now",
    "owner gone": "the pool's owner has ended",
    "owner silent": "the pool's owner shows nothing new",
    "unknown": "the pool shows nothing that can be read",
}


class Follower:
    """Take what a pool shows to a board.

    Args:
        observer: The world.
        name: The pool's name, or `name:instance`.
        board: Where to take it.
    """

    def __init__(self, observer: Observer, name: str, board: Board) -> None:
        self._observer = observer
        self._name = name
        self._board = board
        self._seen: tuple[str, float] = ("", 0.0)
        self._next = 0

    async def run(self) -> None:
        """Follow until it is cancelled."""
        while True:
            try:
                await self._look()
            except (ConfigError, PoolUnknown, SourceUnavailable) as error:
                self._board.complain(str(error))
            await anyio.sleep(PERIOD_S)

    async def _look(self) -> None:
        view = await find(self._observer, self._name)
        if view.picture is not None:
            await self._take(view)
        if view.status != "running":
            self._board.complain(_SAID[view.status])

    async def _take(self, view: PoolView) -> None:
        picture = view.picture
        assert picture is not None
        is_another = view.instance != self._seen[0]
        begins = 0 if is_another else self._next
        found = await events_of(self._observer, view.name, view.instance, begins)
        if is_another:
            self._board.begin_anew()
            self._next = 0
        seen = (view.instance, picture.published_at)
        if seen != self._seen or found:
            self._seen = seen
            self._next = found[-1].number + 1 if found else self._next
            events = [event_json(one.event) for one in found]
            snapshot = to_json(picture.snapshot)
            self._board.publish(picture.published_at, snapshot, events, age_s=view.age_s)
