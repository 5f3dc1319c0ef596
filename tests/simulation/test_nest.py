"""A nested pool's place inside a body, where calls to drain and to come back can overlap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self

import anyio

from pool.manager.nest import Nest
from pool.planning.lifecycle import State
from pool.testing import run


class Parts:
    """Be a pool of one part, whose way back takes as long as the test likes."""

    def __init__(self) -> None:
        self.is_leaving = False
        self.is_back = anyio.Event()
        self.cluster = self
        self.told: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *details: object) -> None:
        pass

    def members(self) -> list[Any]:
        return [SimpleNamespace(state=State.READY, actor=object())]

    def limit_close(self, budget_s: float) -> None:
        pass

    @property
    def reports(self) -> list[Any]:
        return []

    async def call(self, actor: object, method: str, *args: Any, timeout_s: float) -> None:
        with anyio.fail_after(timeout_s):
            if method == "restore":
                await self.is_back.wait()
        self.told.append(method)


def test_a_way_back_that_ends_late_does_not_end_the_drain_that_came_after_it() -> None:
    """INV-9: nobody is judged while it drains."""

    async def main() -> None:
        parts: Any = Parts()
        nest: Nest[Any] = Nest(parts)
        await nest.drain(10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nest.restore)
            await anyio.sleep(1)
            await nest.drain(10)
            parts.is_back.set()
        assert parts.told == ["drain", "drain", "restore"]
        assert parts.is_leaving
        await nest.restore()
        assert not parts.is_leaving
        await nest.close(10)

    run(main)
