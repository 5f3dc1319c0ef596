"""When a slot's next placement group is made: as soon as its nodes have room for it, and no sooner.

Ray puts a group off that it cannot place at once, for a tenth of a second, then for twice as long
and more. A slot's next group, on the nodes of its last one, meets them while they give back what
the last one had. A look at what they have free costs milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import anyio

from pool.cluster.ray import private
from pool.cluster.ray.observer import ask
from pool.errors import SourceUnavailable
from pool.planning.resources import Resources

GIVEN_BACK_S = 0.6
"""Some processes take long to end; then Ray may as well put the group off."""

FIRST_PAUSE_S = 0.005
"""Between the first two looks; each further pause is twice as long,"""

LONGEST_PAUSE_S = 0.02
"""and no longer than this: what is given back comes within some hundredths of a second."""

Free = Mapping[str, Mapping[str, float]]
"""Node to what it has free."""


class Room:
    """Say when nodes have room. One loop's property: not thread-safe."""

    def __init__(self) -> None:
        self._looking: asyncio.Task[Free] | None = None

    async def until_given_back(self, bundles: Sequence[Resources], nodes: Sequence[str]) -> None:
        """Wait until nodes have room for bundles that they had room for before, but not for long.

        It is no more than a hint: where it cannot be found out, nothing is waited for.
        """
        pause_s = FIRST_PAUSE_S
        with anyio.move_on_after(GIVEN_BACK_S), contextlib.suppress(SourceUnavailable):
            while not _have_room(await self._look(), bundles, nodes):
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _look(self) -> Free:
        """Look once for all who want to know at the same time: it reads all nodes."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(ask(private.available_resources_per_node))
            self._looking.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._looking)


def _have_room(free: Free, bundles: Sequence[Resources], nodes: Sequence[str]) -> bool:
    needed: dict[str, Resources] = {}
    for node, bundle in zip(nodes, bundles, strict=True):
        needed[node] = needed.get(node, Resources()) + bundle
    return all(
        amount.fits_in(Resources({name: free.get(node, {}).get(name, 0.0) for name in amount}))
        for node, amount in needed.items()
    )
