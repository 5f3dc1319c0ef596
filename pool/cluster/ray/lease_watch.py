"""The end of an actor whose owner is not heard of any more.

A thread counts, so that an actor whose loops are blocked ends all the same. It asks the body to
wind itself up, removes the group that is the member's own, and ends the process; each of these has
a limit, and the last is always reached.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time

from ray.util.placement_group import remove_placement_group

from pool.cluster.body import Body
from pool.cluster.interface import ActorSpec, Lease
from pool.cluster.lease import LeaseBook, wind_up
from pool.log import Word, say

REMOVE_TIMEOUT_S = 5.0
"""Whoever is cut off cannot remove its group, and ends without having done so."""


class LeaseWatch:
    """Keep an actor's lease, and end the actor with it.

    Args:
        spec: What the actor is.
        body: Its body.
    """

    def __init__(self, spec: ActorSpec, body: Body) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._spec = spec
        self._body = body
        self._lock = threading.Lock()
        self._book = LeaseBook(spec.identity.member, spec.lease, time.monotonic())
        if spec.lease is not None:
            threading.Thread(target=self._watch, name="pool lease", daemon=True).start()

    def hear(self, lease: Lease | None) -> None:
        """Take note of a word from the owner.

        Raises:
            Fenced: A later owner has spoken before.
        """
        with self._lock:
            self._book.hear(lease, time.monotonic())

    def left_s(self) -> float:
        """Return how many seconds are left."""
        with self._lock:
            return self._book.left_s(time.monotonic())

    def _watch(self) -> None:
        while True:
            with self._lock:
                due = self._book.look_at()
            time.sleep(max(0.0, due - time.monotonic()))
            with self._lock:
                if self._book.is_over(time.monotonic(), due):
                    break
        try:
            self._wind_up()
        finally:
            # The process has nobody left to answer to, nor to say goodbye to.
            os._exit(1)

    def _wind_up(self) -> None:
        lease = self._book.lease
        assert lease is not None
        member = self._spec.identity.member
        say(Word.LEASE_OVER, member=member, lasts_s=lease.lasts_s)
        if self.loop is not None:
            winding = wind_up(
                self._body,
                lease.grace_s,
                lambda reason: say(Word.WIND_UP_TROUBLE, member=member, reason=reason),
            )
            future = asyncio.run_coroutine_threadsafe(winding, self.loop)
            try:
                future.result(lease.grace_s)
            except Exception as error:
                say(Word.WIND_UP_TROUBLE, member=member, reason=repr(error))
        reservation = self._spec.reservation
        if reservation is not None and self._spec.own_group:
            removal = threading.Thread(
                target=remove_placement_group, args=(reservation.handle,), daemon=True
            )
            removal.start()
            removal.join(REMOVE_TIMEOUT_S)
