"""Who holds which part of a host's bundle now (INV-12).

Ray keeps the same books for its own actors, but a worker that it has no room for just waits in
it, without a word. Here a worker waits in order, can be told who is before it, and is refused at
once when it could never fit. A host that holds its devices itself gives them out by their ids.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from pool.errors import ConfigError
from pool.planning.portion import hand_out
from pool.planning.resources import UNITS_PER_ONE, Resources


@dataclass(frozen=True, slots=True, eq=False)
class Allotment:
    """Hold a part of the bundle, until it is given back.

    Args:
        holder: Who holds it, in words.
        amount: How much of everything.
        devices: Resource to device id to units of 1e-4; empty unless the host knows its devices.
    """

    holder: str
    amount: Resources
    devices: Mapping[str, Mapping[str, int]]

    @property
    def ids(self) -> dict[str, tuple[str, ...]]:
        """The ids of its devices, by resource."""
        return {name: tuple(units) for name, units in self.devices.items()}


class Allotments:
    """Give out parts of a bundle, first come, first served. One loop's property.

    Args:
        bundle: What there is.
        ids: Resource to the ids of its devices, for a host that holds them itself.
    """

    def __init__(self, bundle: Resources, ids: Mapping[str, Sequence[str]] | None = None) -> None:
        self._bundle = bundle
        self._free = bundle
        self._devices = {
            name: dict.fromkeys(given, UNITS_PER_ONE) for name, given in (ids or {}).items()
        }
        self._held: list[Allotment] = []
        self._queue: deque[tuple[Resources, anyio.Event]] = deque()

    @property
    def held(self) -> tuple[Allotment, ...]:
        """Who holds what, in the order of their coming."""
        return tuple(self._held)

    async def take(self, amount: Resources, holder: str) -> Allotment:
        """Wait until so much is free, and hold it.

        Raises:
            ConfigError: The bundle does not hold that much at all.

        Cancelling it takes nothing.
        """
        if not amount.fits_in(self._bundle):
            raise ConfigError(f"{holder} needs {amount}, and the bundle holds {self._bundle}")
        with self._in_line(amount) as turn:
            await turn.wait()
            return self._hold(amount, holder)

    @contextmanager
    def _in_line(self, amount: Resources) -> Iterator[anyio.Event]:
        place = (amount, anyio.Event())
        self._queue.append(place)
        self._call_next()
        try:
            yield place[1]
        finally:
            self._queue.remove(place)
            self._call_next()

    def _call_next(self) -> None:
        """Tell the first in the line that it is its turn, once there is room for it."""
        if self._queue:
            amount, turn = self._queue[0]
            if amount.fits_in(self._free) and self._choose(amount) is not None:
                turn.set()

    def _choose(self, amount: Resources) -> dict[str, dict[str, int]] | None:
        chosen = {}
        for name, free in self._devices.items():
            if units := amount.units(name):
                devices = hand_out(units, free)
                if devices is None:
                    return None
                chosen[name] = devices
        return chosen

    def _hold(self, amount: Resources, holder: str) -> Allotment:
        devices = self._choose(amount)
        assert devices is not None
        for name, taken in devices.items():
            for device, units in taken.items():
                self._devices[name][device] -= units
        self._free = self._free - amount
        allotment = Allotment(holder, amount, devices)
        self._held.append(allotment)
        return allotment

    def give(self, allotment: Allotment) -> None:
        """Give a part back. Idempotent."""
        if allotment not in self._held:
            return
        self._held.remove(allotment)
        self._free = self._free + allotment.amount
        for name, taken in allotment.devices.items():
            for device, units in taken.items():
                self._devices[name][device] += units
        self._call_next()

    def __str__(self) -> str:
        held = ", ".join(f"{each.holder} holds {each.amount}" for each in self._held)
        return f"{self._free} free of {self._bundle}" + (f"; {held}" if held else "")
