"""Who else lives in the reservations of a pool, and which part of each bundle everybody has.

The reservations stay their pool's: it makes and removes them. Whoever lodges there is told by the
pool's changes when a reservation goes, and the pool waits a while until they have left.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import anyio

from pool.cluster.interface import Reservation
from pool.errors import ConfigError
from pool.planning.resources import UNITS_PER_ONE, Resources
from pool.planning.shape import BundlePlan
from pool.planning.shares import Shares

if TYPE_CHECKING:
    from pool.host.cleaner import DeviceCleaner


class Lodger(Protocol):
    """Be a pool whose members live in the reservations of another."""

    name: str

    def lives_in(self, reservation: Reservation) -> bool:
        """Return whether one of its members is there."""
        ...

    async def changed(self) -> None:
        """Wait until something about it changes."""


def check_cleaner(cleaner: DeviceCleaner | None, pool: str) -> None:
    """Refuse a cleaner that would end the processes of another role on the same devices.

    Raises:
        ConfigError: It ends every holder.
    """
    if cleaner is not None and cleaner.anybody:
        raise ConfigError(
            f"pool {pool!r} shares its devices, and {cleaner!r} would end whoever else holds them; "
            "leave anybody out",
            "cleaner",
        )


class Lodgings:
    """Divide the bundles of a pool among itself and its lodgers.

    Args:
        owner: The pool's name.
        shares: How a bundle is divided; None keeps it whole, for the pool alone.
        by_hosts: Whether the owner's hosts hold the devices, for all. Then every role has all of
            them, and what is divided is the rest of the bundle.
    """

    def __init__(self, owner: str, shares: Shares | None, *, by_hosts: bool = False) -> None:
        self.shares = shares
        self.by_hosts = by_hosts
        self._owner = owner
        self._lodgers: dict[int, Lodger] = {}
        self._whole: dict[str, Reservation] = {}
        self._device = ""

    def check(self, plan: BundlePlan, device: str) -> None:
        """See that every bundle can be divided.

        Raises:
            InfeasibleError: One cannot; the error says what would do.
        """
        if self.shares is not None:
            for bundle in dict.fromkeys(plan.bundles):
                self._divide(bundle, device, 0)

    def take_in(self, lodger: Lodger) -> int:
        """Take a pool in, and return which share of the bundles it has.

        Raises:
            ConfigError: There is no share left for it.
        """
        if self.shares is None:
            raise ConfigError(
                f"pool {self._owner!r} keeps its bundles for itself; make it with "
                "shares=pool.Peers(2), or pool.MainAndSides(), for another to live beside it",
                "beside",
            )
        if len(self._lodgers) >= self.shares.lodgers:
            others = ", ".join(repr(each.name) for each in self._lodgers.values())
            raise ConfigError(
                f"pool {self._owner!r} has {self.shares!r}, and {others} live beside it already; "
                "give it shares for one more",
                "beside",
            )
        share = min(set(range(1, self.shares.lodgers + 1)) - set(self._lodgers))
        self._lodgers[share] = lodger
        return share

    def move_out(self, share: int) -> None:
        """Give back the share of a pool that has nobody here any more, for another to take."""
        self._lodgers.pop(share, None)

    def move_in(self, reservation: Reservation, device: str) -> Reservation:
        """Note a reservation that the owner made, and return it with its own part of each bundle.

        Raises:
            InfeasibleError: A bundle cannot be divided so.
        """
        if self.shares is None:
            return reservation
        self._device = device
        own = self._part(reservation, 0)
        self._whole[reservation.id] = reservation
        return own

    def room(self, reservation: Reservation, share: int) -> Reservation | None:
        """Return a reservation with a lodger's part of each bundle; None once it is given up."""
        whole = self._whole.get(reservation.id)
        return None if whole is None else self._part(whole, share)

    def _part(self, whole: Reservation, share: int) -> Reservation:
        assert self.shares is not None
        parts = (self._divide(bundle, self._device, share) for bundle in whole.bundles)
        return replace(whole, bundles=tuple(parts))

    def _divide(self, bundle: Resources, device: str, share: int) -> Resources:
        assert self.shares is not None
        count = bundle.units(device)
        if not (self.by_hosts and count):
            return self.shares.plan(bundle, device).shares[share]
        # Ray counts no part of several devices: the shares are planned for one, and hold for all.
        rest = {name: bundle.units(name) for name in bundle if name != device}
        one = Resources.from_units({**rest, device: min(count, UNITS_PER_ONE)})
        part = self.shares.plan(one, device).shares[share]
        its = {name: part.units(name) for name in part if name != device}
        return Resources.from_units({**its, device: count})

    def give_up(self, reservation: Reservation) -> bool:
        """Let nobody move in any more; returns whether anybody could."""
        return self._whole.pop(reservation.id, None) is not None

    async def until_empty(self, reservation: Reservation, limit_s: float) -> None:
        """Wait until no lodger is there, but no longer than that."""
        with anyio.move_on_after(limit_s):
            for lodger in list(self._lodgers.values()):
                while lodger.lives_in(reservation):
                    await lodger.changed()
