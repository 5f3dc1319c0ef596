"""Requests are withdrawn when nobody waits for them, however late they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import anyio
import pytest

import pool
from pool.testing import run
from pool.window.requests import Verb, Whom, ask
from tests.cli.canned import ALIVE, Canned

LATE_S = 2.0
WHOM = Whom("rollout", "1f2e3d4c", ALIVE)


class Late(Canned):
    """Take what is published some time after it was sent, whoever still waits for that."""

    fails = False

    async def publish(self, values: Mapping[str, bytes]) -> None:
        await asyncio.shield(self._take(values))

    async def _take(self, values: Mapping[str, bytes]) -> None:
        await asyncio.sleep(LATE_S)
        await super().publish(values)
        if self.fails:
            raise pool.SourceUnavailable("it said nothing more")


def test_a_request_that_is_given_up_while_it_is_sent_does_not_arrive_later() -> None:
    async def main() -> None:
        observer = Late()
        before = dict(observer.values)
        with anyio.move_on_after(LATE_S / 2) as scope:
            await ask(observer, WHOM, Verb.SCALE, {"size": 1})
        assert scope.cancelled_caught
        await anyio.sleep(2 * LATE_S)
        assert observer.values == before

    run(main)


def test_a_request_that_arrived_although_sending_it_failed_is_withdrawn() -> None:
    async def main() -> None:
        observer = Late()
        observer.fails = True
        before = dict(observer.values)
        with pytest.raises(pool.SourceUnavailable, match="said nothing more"):
            await ask(observer, WHOM, Verb.SCALE, {"size": 1})
        assert observer.values == before

    run(main)
