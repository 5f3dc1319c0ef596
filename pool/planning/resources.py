"""Amounts of resources: the value type that every placement planner counts in.

Purpose: one immutable bag of named amounts, with Ray's own names as keys ("CPU", "GPU", "TPU",
"memory", any custom name), whose sums and differences are exact.

Limits: amounts have Ray's granularity of 1e-4, and are rounded to it (half to even) when they
come in; an amount that rounds to nothing is dropped. Memory is in bytes.

Why not a plain ``dict[str, float]``: ten times 0.1 is not 1.0 in floats, so a plan that just
fits would be refused, or one that just does not fit would wait in Ray for ever. Inside,
amounts are integers of 1e-4, as they are inside Ray's scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from numbers import Real
from typing import Final

from pool.errors import ConfigError

UNITS_PER_ONE: Final = 10_000
"""Ray counts resources in integers of 1e-4; so do we."""

CPU: Final = "CPU"
GPU: Final = "GPU"
MEMORY: Final = "memory"
OBJECT_STORE_MEMORY: Final = "object_store_memory"

_BYTE_NAMES: Final = frozenset({MEMORY, OBJECT_STORE_MEMORY})
_BYTE_STEPS: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def gib(n: float) -> int:
    """Return `n` GiB in bytes.

    Args:
        n: Gibibytes, 0 or more; a fraction of a byte is rounded off.

    Returns:
        Whole bytes.

    Raises:
        ConfigError: `n` is negative, not finite, or no number.
    """
    return round(Fraction(as_number(n, "gib")) * (1 << 30))


def as_number(value: object, field: str) -> int | float | Fraction:
    """Return `value` if it is a finite number of 0 or more, and refuse it otherwise.

    Args:
        value: What the caller typed.
        field: Its name, for the error.

    Returns:
        The value: an int stays an int, so that large byte counts stay exact.

    Raises:
        ConfigError: It is negative, NaN, infinite, a bool, or no number.
    """
    # NB: bool is an int in Python; `True` GPUs is a slip, not a request for one.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{field} is {value!r}; give a number of 0 or more", field)
    number = value if isinstance(value, (int, Fraction)) else float(value)
    if isinstance(number, float) and not math.isfinite(number):
        raise ConfigError(f"{field} is {value!r}; give a finite number of 0 or more", field)
    if number < 0:
        raise ConfigError(f"{field} is {value!r}; give 0 or more", field)
    return number


def as_whole(value: object, field: str, at_least: int = 0) -> int:
    """Return `value` if it is a whole number of `at_least` or more, and refuse it otherwise.

    Args:
        value: What the caller typed.
        field: Its name, for the error.
        at_least: The smallest value to accept.

    Returns:
        The value.

    Raises:
        ConfigError: It is no int (1.5, 2.0, "4" and True are refused), or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{field} is {value!r}; give a whole number", field)
    if value < at_least:
        raise ConfigError(f"{field} is {value}; give {at_least} or more", field)
    return value


def as_name(value: object, field: str) -> str:
    """Return `value` if it is a text that is not empty, and refuse it otherwise.

    Args:
        value: What the caller typed.
        field: Its name, for the error.

    Returns:
        The text.

    Raises:
        ConfigError: It is empty, or no text.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{field} is {value!r}; give a text that is not empty", field)
    return value


def to_units(value: object, field: str) -> int:
    """Return `value` in integers of 1e-4.

    Args:
        value: A finite number of 0 or more.
        field: Its name, for the error.

    Returns:
        The nearest number of units; 0 for anything up to half a unit.

    Raises:
        ConfigError: `value` is negative, not finite, or no number.
    """
    number = as_number(value, field)
    if isinstance(number, int):
        return number * UNITS_PER_ONE
    return round(Fraction(number) * UNITS_PER_ONE)


def amount_text(name: str, units: int) -> str:
    """Return an amount as a person would write it: "8 GPU", "0.5 CPU", "2 GiB memory".

    Args:
        name: The resource.
        units: How much, in integers of 1e-4.

    Returns:
        The text.
    """
    if name in _BYTE_NAMES:
        for step, unit in _BYTE_STEPS:
            if units >= step * UNITS_PER_ONE:
                return f"{_decimal(units, step * UNITS_PER_ONE, 2)} {unit} {name}"
        return f"{_decimal(units, UNITS_PER_ONE, 4)} B {name}"
    return f"{_decimal(units, UNITS_PER_ONE, 4)} {name}"


class Resources(Mapping[str, float]):
    """Hold named amounts of resources; immutable, hashable, and exact in sums.

    A `Mapping`, so it can be given to Ray as it is (`dict(resources)`). A name that is absent
    has the amount 0: `resources.get("GPU", 0)`. Zeros are dropped, so two that hold the same
    are equal.

    Args:
        amounts: Name to amount; each 0 or more, finite.

    Raises:
        ConfigError: An amount is negative, not finite or no number; a name is no text.
    """

    __slots__ = ("_hash", "_units")
    _units: dict[str, int]
    _hash: int

    def __init__(self, amounts: Mapping[str, float] = {}) -> None:
        if isinstance(amounts, Resources):
            units = amounts._units
        else:
            units = {}
            for name, amount in amounts.items():
                counted = to_units(amount, as_name(name, "resource name"))
                if counted:
                    units[name] = counted
        self._fill(units)

    def _fill(self, units: dict[str, int]) -> None:
        object.__setattr__(self, "_units", units)
        object.__setattr__(self, "_hash", hash(frozenset(units.items())))

    @classmethod
    def from_units(cls, units: Mapping[str, int]) -> Resources:
        """Build from amounts that are already integers of 1e-4.

        Args:
            units: Name to units; zeros are dropped.

        Returns:
            The resources.

        Raises:
            ConfigError: An amount is negative or not an int.
        """
        made = cls.__new__(cls)
        made._fill({name: as_whole(n, name) for name, n in units.items() if n})
        return made

    @classmethod
    def of(
        cls,
        *,
        cpus: float = 0,
        devices: float = 0,
        device: str = "GPU",
        memory_bytes: int = 0,
        **custom: float,
    ) -> Resources:
        """Build from what a replica is usually described by.

        Args:
            cpus: CPUs.
            devices: Accelerators.
            device: Ray's name of the accelerator.
            memory_bytes: Memory, in bytes.
            **custom: Further resources by their Ray names.

        Returns:
            The resources.

        Raises:
            ConfigError: A value is not a number of 0 or more, or a name is given twice.
        """
        amounts: dict[str, float] = {CPU: cpus, MEMORY: as_whole(memory_bytes, "memory_bytes")}
        for name, amount in ((device, devices), *custom.items()):
            if name in amounts:
                raise ConfigError(f"{name!r} is given twice; give each resource once", name)
            amounts[name] = amount
        return cls(amounts)

    def __getitem__(self, name: str) -> float:
        units = self._units[name]
        whole, rest = divmod(units, UNITS_PER_ONE)
        return float(whole) if not rest else units / UNITS_PER_ONE

    def __iter__(self) -> Iterator[str]:
        return iter(self._units)

    def __len__(self) -> int:
        return len(self._units)

    def __contains__(self, name: object) -> bool:
        return name in self._units

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Resources):
            return self._units == other._units
        return super().__eq__(other)

    def __hash__(self) -> int:
        return self._hash

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Resources are immutable; {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Resources are immutable; {name!r} cannot be deleted")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self._units,))

    def units(self, name: str) -> int:
        """Return the amount of one resource in integers of 1e-4.

        Args:
            name: The resource.

        Returns:
            Its units; 0 if it is absent.
        """
        return self._units.get(name, 0)

    def __add__(self, other: Resources) -> Resources:
        """Return both together."""
        total = dict(self._units)
        for name, units in other._units.items():
            total[name] = total.get(name, 0) + units
        return self.from_units(total)

    def __sub__(self, other: Resources) -> Resources:
        """Return what is left of this once `other` is taken away.

        Raises:
            ConfigError: `other` holds more of something than this does.
        """
        short = other.shortfall(self)
        if short:
            raise ConfigError(f"cannot take {other} from {self}: short of {short}")
        return self.minus_clamped(other)

    def minus_clamped(self, other: Resources) -> Resources:
        """Return what is left of this once `other` is taken away, never below zero.

        Args:
            other: What to take away.

        Returns:
            The rest.
        """
        return self.from_units(
            {name: max(0, units - other.units(name)) for name, units in self._units.items()}
        )

    def scaled(self, k: float | Fraction) -> Resources:
        """Return `k` times this.

        Args:
            k: 0 or more. With a whole `k` the result is exact; otherwise each amount is
                rounded to the nearest 1e-4.

        Returns:
            The product.

        Raises:
            ConfigError: `k` is negative, not finite, or no number.
        """
        factor = Fraction(as_number(k, "k"))
        return self.from_units({name: round(units * factor) for name, units in self._units.items()})

    def fits_in(self, other: Resources) -> bool:
        """Say whether `other` holds at least as much of everything.

        Args:
            other: What is there.

        Returns:
            True if it fits.
        """
        return all(units <= other.units(name) for name, units in self._units.items())

    def shortfall(self, other: Resources) -> Resources:
        """Return what `other` lacks to hold this.

        Args:
            other: What is there.

        Returns:
            The missing amounts; empty (and so false) if this fits.
        """
        return self.minus_clamped(other)

    def __str__(self) -> str:
        if not self._units:
            return "nothing"
        ordered = sorted(self._units.items(), key=lambda item: (_rank_in_text(item[0]), item[0]))
        return ", ".join(amount_text(name, units) for name, units in ordered)

    def __repr__(self) -> str:
        return f"Resources({dict(self)!r})"


def _rank_in_text(name: str) -> int:
    """Devices first, because they are what is scarce; then CPUs, then bytes."""
    if name in _BYTE_NAMES:
        return 2
    return 1 if name == CPU else 0


def _rebuild(units: dict[str, int]) -> Resources:
    # Pickling by units, not by floats, keeps byte counts above 2**53 exact.
    return Resources.from_units(units)


def _decimal(units: int, per_one: int, digits: int) -> str:
    text = f"{units / per_one:.{digits}f}"
    return text.rstrip("0").rstrip(".")
