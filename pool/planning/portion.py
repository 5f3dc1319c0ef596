"""What a worker takes of the bundle that its host looks after.

Purpose: one rule for all kinds of workers. Who takes a part of the devices takes the same part of
everything else in the bundle, so that workers on all the devices fit together.

Limits: Ray knows fractions of one device only, so a portion is a whole number of devices or a part
of one. A bundle without devices is divided by CPUs.

Why not the whole bundle for everybody: then two runs that need one device each would follow one
another on a host of eight.
"""

from __future__ import annotations

from collections.abc import Mapping

from pool.errors import ConfigError
from pool.planning.resources import CPU, UNITS_PER_ONE, Resources, as_number, to_units


def portion(
    bundle: Resources, device: str, devices: float | None = None, cpus: float | None = None
) -> Resources:
    """Return what a worker takes of a bundle.

    Args:
        bundle: What the host looks after.
        device: Ray's name of the bundle's devices.
        devices: How many of them: a whole number, or a part of one. None takes all.
        cpus: How many CPUs. None takes as large a part of them as of the devices; of a bundle
            without devices, or for a worker without any, one CPU.

    Returns:
        The portion.

    Raises:
        ConfigError: The bundle does not hold that much, or Ray cannot count it.
    """
    total = bundle.units(device)
    wanted = total if devices is None else to_units(devices, "devices")
    if wanted > UNITS_PER_ONE and wanted % UNITS_PER_ONE:
        raise ConfigError(
            f"devices is {devices!r}; give a whole number, or a part of one device", "devices"
        )
    if wanted > total:
        raise ConfigError(
            f"devices is {devices!r}, and the host's bundle holds {bundle}; give at most "
            f"{bundle.get(device, 0):g}",
            "devices",
        )
    # Rounded down, so that all portions together never need more than there is.
    part = {name: bundle.units(name) * wanted // total for name in bundle} if wanted else {}
    if cpus is None:
        given = part.get(CPU, 0) if wanted else min(UNITS_PER_ONE, bundle.units(CPU))
    else:
        given = to_units(as_number(cpus, "cpus"), "cpus")
    if given > bundle.units(CPU):
        raise ConfigError(
            f"cpus is {cpus!r}, and the host's bundle holds {bundle}; give at most "
            f"{bundle.get(CPU, 0):g}",
            "cpus",
        )
    return Resources.from_units({**part, CPU: given, device: wanted})


def hand_out(
    wanted: int, free: Mapping[str, int], whole: int = UNITS_PER_ONE
) -> dict[str, int] | None:
    """Choose the devices for a portion.

    Args:
        wanted: Units of 1e-4 devices: whole devices, or a part of one.
        free: Device id to the units that are free on it, in the order to prefer.
        whole: The units of one device.

    Returns:
        Device id to the units taken of it: whole devices in order, or a part of the fullest that
        has room. None when it does not fit now.
    """
    if wanted < whole:
        room = {name: units for name, units in free.items() if units >= wanted}
        fullest = min(room, key=lambda name: room[name], default=None)
        return None if fullest is None else {fullest: wanted}
    empty = [name for name, units in free.items() if units == whole]
    count = wanted // whole
    return dict.fromkeys(empty[:count], whole) if len(empty) >= count else None
