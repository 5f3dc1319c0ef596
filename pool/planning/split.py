"""Split a request over nodes of equal size: full nodes first, the remainder last.

Purpose: "24 devices, 16 a node, 1 CPU, 1024 bytes" becomes (16, 1, 683) and (8, 0, 341): each
node's part is in proportion to its devices.

Limits: it splits for nodes of one size, and does not look at a topology; `pool.planning.shape`
does. A node's part is within one unit of its exact proportion (1 CPU, or 1e-4 if the total is
no whole number; 1 byte), never negative, and the parts add up to the total exactly (INV-8).

Why not round each part and give the last node what is left: 15 CPUs over 80 devices on nodes of
8 rounds to nine 2s and leaves -3 for the tenth, and Ray takes that, until the raylet aborts.
Largest remainder cannot do that.
"""

from __future__ import annotations

from collections.abc import Sequence

from pool.errors import ConfigError
from pool.planning.resources import CPU, MEMORY, UNITS_PER_ONE, Resources, as_whole, to_units
from pool.planning.shape import BundlePlan
from pool.planning.topology import ANY_NODE, NodeSelector


def apportion(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Divide a whole amount in proportion to weights, by the largest remainder.

    Args:
        total: What to divide, 0 or more.
        weights: One for each part, 0 or more, with a sum above 0.

    Returns:
        Whole parts, none negative, whose sum is `total`, each its exact proportion rounded up
        or down. Among equal remainders, earlier parts get the larger amount.

    Raises:
        ConfigError: A value is negative or not whole, or the weights add up to nothing.
    """
    as_whole(total, "total")
    whole = sum(as_whole(weight, "weights") for weight in weights)
    if not whole:
        raise ConfigError("the weights add up to 0; give at least one above 0", "weights")
    parts = [total * weight // whole for weight in weights]
    left = total - sum(parts)
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for i in by_remainder[:left]:
        parts[i] += 1
    return tuple(parts)


def split_request(
    devices: int,
    devices_per_node: int,
    *,
    cpus: float = 0,
    memory_bytes: int = 0,
    device: str = "GPU",
    selector: NodeSelector = ANY_NODE,
) -> BundlePlan:
    """Split a request over as few nodes of `devices_per_node` devices as hold it.

    Args:
        devices: Devices in all; with 0, everything is one bundle.
        devices_per_node: Devices of a node, 1 or more.
        cpus: CPUs in all. A whole total is split into whole CPUs, another one into 1e-4.
        memory_bytes: Memory in all.
        device: Ray's name of the device.
        selector: The nodes that it may use; carried along.

    Returns:
        Full nodes first, the remainder last; packed if it is one node, spread otherwise.

    Raises:
        ConfigError: A value is negative, not whole, or everything is 0.
    """
    as_whole(devices, "devices")
    as_whole(devices_per_node, "devices_per_node", at_least=1)
    as_whole(memory_bytes, "memory_bytes")
    cpu_units = to_units(cpus, "cpus")
    cpu_step = 1 if cpu_units % UNITS_PER_ONE else UNITS_PER_ONE

    full, rest = divmod(devices, devices_per_node)
    sizes = [devices_per_node] * full + ([rest] if rest else [])
    # A request without devices is one bundle; any weight gives it everything.
    weights = sizes or [1]
    cpu_parts = apportion(cpu_units // cpu_step, weights)
    memory_parts = apportion(memory_bytes, weights)
    bundles = tuple(
        Resources.from_units(
            {device: size * UNITS_PER_ONE, CPU: cpu * cpu_step, MEMORY: memory * UNITS_PER_ONE}
        )
        for size, cpu, memory in zip(sizes or [0], cpu_parts, memory_parts, strict=True)
    )
    if len(bundles) == 1:
        where = f"fit one node of {devices_per_node}" if devices else "need one bundle"
        return BundlePlan(bundles, "STRICT_PACK", selector, f"{devices} {device} {where}")
    tail = f" and one with {rest}" if rest else ""
    return BundlePlan(
        bundles,
        "STRICT_SPREAD",
        selector,
        f"{devices} {device} at {devices_per_node} a node are {full} full nodes{tail}; "
        "CPUs and memory follow the devices",
    )
