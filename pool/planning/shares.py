"""Shares of one bundle for workers that live together on its devices.

Purpose: plan, before anything is created, what each of several workers on the same devices
asks Ray for: n equal peers, or one main worker with k small ones beside it.

Limits: Ray knows fractions of *one* device only, at a granularity of 1e-4. So a share below one
device must divide it evenly among the workers on it, and a share above one must be whole. A
share is Ray's bookkeeping: it does not limit what a worker takes on the device.

Why not a fixed 0.9 for the main worker and 0.01 for each one beside it: the eleventh then waits
for ever, and on two devices the main worker asks for 1.8, which Ray refuses once the
reservation exists. Here that is an error at once, with the number that would fit.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from pool.errors import ConfigError, InfeasibleError
from pool.planning.resources import (
    CPU,
    MEMORY,
    UNITS_PER_ONE,
    Resources,
    amount_text,
    as_whole,
    to_units,
)

DEFAULT_SIDE_SHARE: Final = 0.01
"""What a side worker takes of a device unless told: enough for Ray to show it the device."""


@dataclass(frozen=True, slots=True)
class ColocationShares:
    """Hold what each worker on one bundle asks for.

    Args:
        shares: One for each worker, in order; with a main worker, it is the first.
        spare: What of the bundle nobody asks for.
        reason: How the shares came about.
    """

    shares: tuple[Resources, ...]
    spare: Resources
    reason: str


@runtime_checkable
class Shares(Protocol):
    """Say how the bundles of a role are shared with roles that live beside it."""

    @property
    def lodgers(self) -> int:
        """How many roles may live beside the one that the bundles belong to."""
        ...

    def plan(self, bundle: Resources, device: str) -> ColocationShares:
        """Divide a bundle: the first share is its owner's.

        Raises:
            InfeasibleError: It cannot be divided so.
        """
        ...


@dataclass(frozen=True, slots=True)
class Peers:
    """Let `n` roles share each bundle in equal parts, the owner among them.

    Args:
        n: How many roles, 2 or more.

    Raises:
        ConfigError: It is no whole number of 2 or more.
    """

    n: int = 2

    def __post_init__(self) -> None:
        as_whole(self.n, "n", at_least=2)

    @property
    def lodgers(self) -> int:
        """How many roles may live beside the owner."""
        return self.n - 1

    def plan(self, bundle: Resources, device: str) -> ColocationShares:
        """Divide a bundle as `plan_peers` does."""
        return plan_peers(self.n, bundle, device=device)


@dataclass(frozen=True, slots=True, kw_only=True)
class MainAndSides:
    """Let small roles live beside a main one, which the bundles belong to.

    Args:
        sides: How many small roles, 1 or more.
        main_share: Devices of the main role, of each bundle; None for what the others leave.
        side_share: Devices of each small role; None for `DEFAULT_SIDE_SHARE`.
        side_cpus: CPUs of each small role, of each bundle; the main role has the rest.
        side_memory_bytes: Memory of each small role; the main role has the rest.

    Raises:
        ConfigError: `sides` is no whole number of 1 or more.
    """

    sides: int = 1
    main_share: float | None = None
    side_share: float | None = None
    side_cpus: float = 0
    side_memory_bytes: int = 0

    def __post_init__(self) -> None:
        as_whole(self.sides, "sides", at_least=1)

    @property
    def lodgers(self) -> int:
        """How many roles may live beside the main one."""
        return self.sides

    def plan(self, bundle: Resources, device: str) -> ColocationShares:
        """Divide a bundle as `plan_main_and_side` does."""
        return plan_main_and_side(
            self.sides,
            bundle,
            device=device,
            main_share=self.main_share,
            side_share=self.side_share,
            side_cpus=self.side_cpus,
            side_memory_bytes=self.side_memory_bytes,
        )


def plan_peers(n: int, bundle: Resources, *, device: str = "GPU") -> ColocationShares:
    """Divide a bundle among `n` equal peers.

    Args:
        n: How many peers, 1 or more.
        bundle: What they share.
        device: Ray's name of the device.

    Returns:
        `n` equal shares of everything in the bundle, rounded down to what Ray can count.

    Raises:
        ConfigError: `n` is no whole number of 1 or more.
        InfeasibleError: The devices do not divide among `n` peers in a way that Ray knows.
    """
    as_whole(n, "n", at_least=1)
    units = bundle.units(device)
    share = _peer_units(n, units, device)
    each = {}
    for name in bundle:
        if name == device:
            each[name] = share
        elif name == MEMORY:
            each[name] = bundle.units(name) // UNITS_PER_ONE // n * UNITS_PER_ONE
        else:
            each[name] = bundle.units(name) // n
    one = Resources.from_units(each)
    if not one:
        raise InfeasibleError(
            f"{n} peers cannot share {bundle}: a share would be below Ray's granularity of 1e-4."
        )
    return ColocationShares(
        (one,) * n, bundle - one.scaled(n), f"{n} equal peers share {bundle}: {one} each"
    )


def _peer_units(n: int, units: int, device: str) -> int:
    """Return each peer's part of the devices, in units."""
    if not units:
        return 0
    have = amount_text(device, units)
    if units < UNITS_PER_ONE:
        per_device, capacity = n, units  # a bundle that is itself a part of one device
    elif units % UNITS_PER_ONE:
        raise InfeasibleError(
            f"{n} peers cannot share {have}: above one device, Ray takes whole devices only."
        )
    else:
        whole = units // UNITS_PER_ONE
        if whole % n == 0:
            return units // n
        if n % whole:
            # Three peers at 2/3 of two devices: each device holds one, the third waits for ever.
            fits = [m for m in range(1, n) if whole % m == 0 or m % whole == 0]
            raise InfeasibleError(
                f"{n} peers cannot share {have}: neither whole devices for each peer nor the "
                "same number of peers on each device.",
                nearest=f"{max(fits)} peers",
            )
        per_device, capacity = n // whole, UNITS_PER_ONE
    if per_device > capacity:
        most = capacity * (n // per_device)
        raise InfeasibleError(
            f"{n} peers cannot share {have}: a share would be below Ray's granularity of 1e-4.",
            nearest=f"{most} peers",
        )
    return capacity // per_device


def plan_main_and_side(
    k: int,
    bundle: Resources,
    *,
    device: str = "GPU",
    main_share: float | None = None,
    side_share: float | None = None,
    side_cpus: float = 0,
    side_memory_bytes: int = 0,
) -> ColocationShares:
    """Divide a bundle between one main worker and `k` side workers.

    Args:
        k: How many side workers, 0 or more.
        bundle: What they share.
        device: Ray's name of the device.
        main_share: Devices of the main worker; None for all that the side workers leave.
        side_share: Devices of each side worker; None for `DEFAULT_SIDE_SHARE`, or for nothing if
            the bundle has no devices.
        side_cpus: CPUs of each side worker; the main worker has the rest.
        side_memory_bytes: Memory of each side worker; the main worker has the rest.

    Returns:
        The main worker's share, then `k` equal ones.

    Raises:
        ConfigError: A value is negative, no number, or below Ray's granularity.
        InfeasibleError: They do not fit together; the error says how many side workers would.
    """
    as_whole(k, "k")
    if side_share is None:
        side_share = DEFAULT_SIDE_SHARE if bundle.units(device) else 0
    side_units = to_units(side_share, "side_share")
    if side_share and not side_units:
        raise ConfigError(
            f"side_share is {side_share}, below Ray's granularity; give 0.0001 or more",
            "side_share",
        )
    main_units = None if main_share is None else to_units(main_share, "main_share")
    if main_share and not main_units:
        raise ConfigError(
            f"main_share is {main_share}, below Ray's granularity; give 0.0001 or more",
            "main_share",
        )
    side = Resources(
        {
            CPU: side_cpus,
            MEMORY: as_whole(side_memory_bytes, "side_memory_bytes"),
            device: side_units / UNITS_PER_ONE,
        }
    )
    why = _why_not(k, bundle, main_units, side, device)
    if why is not None:
        # Whatever fits k side workers fits fewer, so the most that fit are found by halving.
        most = bisect_left(
            range(k),
            True,
            key=lambda n: _why_not(n, bundle, main_units, side, device) is not None,
        )
        raise InfeasibleError(why, nearest=_side_workers(most - 1) if most else None)
    main, spare = _main_and_spare(bundle - side.scaled(k), main_units, device)
    beside = f"{_side_workers(k)} with {side or 'nothing'} each" if k else "no side worker"
    return ColocationShares(
        (main, *(side for _ in range(k))),
        spare,
        f"the main worker has {main} of {bundle}, beside {beside}",
    )


def _main_and_spare(
    rest: Resources, main_units: int | None, device: str
) -> tuple[Resources, Resources]:
    """Give the main worker all of `rest` but the devices that nobody asks for."""
    left = rest.units(device)
    spare = Resources.from_units({device: 0 if main_units is None else left - main_units})
    return rest - spare, spare


def _why_not(
    k: int, bundle: Resources, main_units: int | None, side: Resources, device: str
) -> str | None:
    """Say why Ray could never hand out these shares together, or None if it could."""
    have, each = bundle.units(device), side.units(device)
    main = max(0, have - k * each) if main_units is None else main_units
    text = f"a main worker with {amount_text(device, main)}"
    if k:
        text += f" and {_side_workers(k)} with {amount_text(device, each)} each"
    if main + k * each > have:
        return (
            f"{text} ask for {amount_text(device, main + k * each)} of {amount_text(device, have)}."
        )
    if have > UNITS_PER_ONE and any(part % UNITS_PER_ONE for part in (main, each if k else 0)):
        return (
            f"{text} cannot share {amount_text(device, have)}: above one device, Ray takes whole "
            "devices only. Give whole shares, or one device a bundle."
        )
    sides = side.scaled(k)
    if not sides.fits_in(bundle):
        return (
            f"{_side_workers(k)} with {side} each do not fit {bundle}: "
            f"short of {sides.shortfall(bundle)}."
        )
    if (have and not main) or not _main_and_spare(bundle - sides, main_units, device)[0]:
        what = amount_text(device, have) if have else str(bundle)
        return f"{text} leave nothing of {what} to the main worker."
    return None


def _side_workers(n: int) -> str:
    return f"{n} side worker" + ("" if n == 1 else "s")
