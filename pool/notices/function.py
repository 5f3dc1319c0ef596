"""Notices from a function of yours, for a site that has its own signal."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio.to_thread

from pool.cluster.interface import Cluster
from pool.errors import SourceUnavailable
from pool.notices.source import ClusterNoticeSource
from pool.planning.notice import Notice

Ask = Callable[[Sequence[str]], Mapping[str, Notice] | Awaitable[Mapping[str, Notice]]]


class FunctionNotices(ClusterNoticeSource):
    """Ask a function which nodes will go away.

    Args:
        ask: Called with the ids of the nodes that the pool uses; returns node id to notice. A
            plain function runs in a thread, an async one on the pool's loop. Whatever it raises
            counts as "could not ask".
        period_s: Seconds between two calls.
    """

    def __init__(self, ask: Ask, period_s: float = 1.0) -> None:
        self.name = f"function:{getattr(ask, '__name__', 'anonymous')}"
        self.period_s = period_s
        self._ask = ask

    async def check(self, cluster: Cluster, node_ids: Sequence[str]) -> Mapping[str, Notice]:
        try:
            found = await self._call(node_ids)
            answer = await found if inspect.isawaitable(found) else found
        except Exception as error:
            raise SourceUnavailable(f"{self.name} raised {error!r}") from error
        return dict(answer)

    async def _call(self, node_ids: Sequence[str]) -> Mapping[str, Notice] | Awaitable[Any]:
        if inspect.iscoroutinefunction(self._ask):
            return self._ask(node_ids)
        ask: Callable[[], Any] = functools.partial(self._ask, node_ids)
        return await anyio.to_thread.run_sync(ask)
