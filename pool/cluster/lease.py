"""A member's lease: how long it may live without a word from its owner.

The books of it, for whatever runs the member: a real actor counts with a thread and the monotonic
clock, a simulated one with its virtual time. What the end of a lease means is the same for both:
the body is wound up as by an owner who is in a hurry, and then the actor ends.

Why a lease and not a watch on the owner: whoever is cut off from its owner cannot tell its death
from its silence, and neither can the owner. With a lease both know when it is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from pool.cluster.body import Body
from pool.cluster.interface import Lease
from pool.errors import Fenced
from pool.planning.drain import DrainPolicy, Rung, split_deadline

LATE_S = 1.0
DOUBT_S = 1.0
"""How long a member goes on listening after its lease is over."""
RESPITE_S = 5.0
"""How long a member that stood still listens before it believes that its owner is silent."""


class LeaseBook:
    """Keep when a member's lease is over.

    Args:
        member: The member's id, for messages.
        lease: The first lease; None never ends.
        now: Seconds, on the clock of whoever asks.
    """

    def __init__(self, member: str, lease: Lease | None, now: float) -> None:
        self._member = member
        self._lease = lease
        self._heard_at = now
        self._doubted_at: float | None = None

    @property
    def lease(self) -> Lease | None:
        """The lease as it was last granted."""
        return self._lease

    def hear(self, lease: Lease | None, now: float) -> None:
        """Take note of a word from an owner.

        Raises:
            Fenced: A later owner has spoken before; this one is not obeyed.
        """
        if lease is None:
            return
        if self._lease is not None and lease.epoch < self._lease.epoch:
            raise Fenced(self._member, lease.epoch, self._lease.epoch)
        self._lease = lease
        self._heard_at = now
        self._doubted_at = None

    def ends_at(self) -> float:
        """Return when it is over, if no word comes."""
        return math.inf if self._lease is None else self._heard_at + self._lease.lasts_s

    def left_s(self, now: float) -> float:
        """Return how many seconds are left: so long may it let others live in its name."""
        return max(0.0, self.ends_at() - now)

    def look_at(self) -> float:
        """Return when to ask next whether it is over."""
        return self.ends_at() if self._doubted_at is None else self._doubted_at + DOUBT_S

    def is_over(self, now: float, due: float) -> bool:
        """Return whether it is over, for somebody who meant to look at `due`.

        It takes two looks. Who stood still until just before the first could not listen; and who
        looks late has stood still itself, and has to be given the time to hear before its owner's
        silence counts (INV-9).
        """
        if self._lease is not None and now - due > LATE_S:
            self._heard_at = max(self._heard_at, now - self._lease.lasts_s + RESPITE_S)
        if now < self.ends_at():
            self._doubted_at = None
            return False
        if self._doubted_at is None:
            self._doubted_at = now
            return False
        return True


async def wind_up(body: Body, grace_s: float, say: Callable[[str], object]) -> None:
    """Let a body finish and put down what it holds, within `grace_s` seconds.

    Args:
        body: The body of the actor that ends.
        grace_s: Seconds for all of it.
        say: Is told what went wrong, in sentences.
    """
    ladder = split_deadline(DrainPolicy(timeout_s=grace_s), grace_s)
    began = anyio.current_time()
    for rung, step in ((Rung.WORK, body.drain), (Rung.HOOK, body.shutdown)):
        left_s = ladder.left_s(rung, anyio.current_time() - began)
        try:
            with anyio.fail_after(left_s):
                await step(left_s)
        except Exception as error:
            say(f"its {step.__name__} failed: {error!r}")
