"""Rolling replacement: every member by one of a new revision, a few at a time.

Who goes next is the planners' to say (`pool.planning.rolling`), from what is observed; here is only
what the pool is rolled to, and within which bounds.
"""

from __future__ import annotations

import math
from dataclasses import replace

import anyio

from pool.manager.arguments import check_timeout
from pool.manager.events import EventKind
from pool.manager.lifetime import Lifetime
from pool.manager.member import InfoT
from pool.manager.results import RollResult
from pool.planning.rolling import RollPolicy


class Rolls(Lifetime[InfoT]):
    """Roll a pool to another revision, and back."""

    @property
    def roll_policy(self) -> RollPolicy | None:
        """How fast outdated members are being replaced; None while no roll is under way."""
        return self._goal.roll

    async def roll(
        self, policy: RollPolicy | None = None, *, timeout_s: float | None = None
    ) -> RollResult:
        """Replace every member by one of a new revision, a few at a time.

        Args:
            policy: How many more, and how many ready ones fewer, there may be meanwhile. By
                default one more where the pool has a surge, and else one fewer.
            timeout_s: Seconds to wait; None waits for ever.

        Returns:
            How far it came. When the time is up the roll goes on.

        Raises:
            PoolFailed: The new revision used its restarts up. What works of the old one is kept;
                `roll_back`, or mend the cause and `scale` to try again.
            PoolClosed: The pool is not open.
            ConfigError: The time-out is no number of seconds.

        Cancelling it leaves the roll in force.
        """
        self._check_open()
        check_timeout(timeout_s)
        self._previous = self.revision
        self._newest += 1
        return await self._roll_to(self._newest, policy, timeout_s)

    async def roll_back(
        self, policy: RollPolicy | None = None, *, timeout_s: float | None = None
    ) -> RollResult:
        """Roll to the revision before the last `roll`; those of it that still run stay.

        Args, result, errors and cancellation are those of `roll`.
        """
        self._check_open()
        check_timeout(timeout_s)
        target, self._previous = self._previous, self.revision
        return await self._roll_to(target, policy, timeout_s)

    def pause_roll(self) -> None:
        """Let nobody else go; what was begun is finished. Idempotent."""
        self._check_open()
        if self._goal.roll is not None:
            self._set_roll(replace(self._goal.roll, paused=True))

    def resume_roll(self) -> None:
        """Go on with a roll that was paused. Idempotent."""
        self._check_open()
        if self._goal.roll is not None:
            self._set_roll(replace(self._goal.roll, paused=False))

    async def _roll_to(
        self, revision: int, policy: RollPolicy | None, timeout_s: float | None
    ) -> RollResult:
        if policy is None:
            surge = self.policies.surge
            policy = RollPolicy(surge=surge, max_unavailable=0 if surge else 1)
        await self._announce(revision=revision, roll=policy)
        self._check_open()
        self._start_afresh()
        self._set_roll(policy, revision=revision)
        self.emit(EventKind.POOL_ROLLING, revision=revision, policy=repr(policy))
        with anyio.move_on_after(math.inf if timeout_s is None else timeout_s):
            await self._until(
                lambda: (
                    self.revision != revision
                    or self._failed is not None
                    or (self._goal.roll is None and self._is_at(self._goal.desired))
                )
            )
        if self._failed is not None:
            raise self._failed
        slots = self._slots.values()
        outdated = {slot.index: self._reason(slot) for slot in slots if slot.is_outdated}
        return RollResult(revision, self._ready(), outdated, self.revision != revision)

    def _roll_in_words(self) -> str:
        roll = self._goal.roll
        if roll is None:
            return ""
        outdated = sum(slot.is_outdated for slot in self._slots.values())
        held = "held" if roll.paused else "under way"
        return f"{held} to revision {self.revision}, {outdated} outdated"
