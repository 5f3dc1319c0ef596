"""What many calls share, carried to each member once: a function, or a large value.

A function is frozen once for all its calls, and a member thaws it once. Ray would pickle it anew
for each call, which costs more than the call when it is large, or stands in a script.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pool.cluster.interface import Cluster

INLINE_BYTES = 64 * 1024
"""What is larger is put into the object store, and fetched by each member once."""
KEPT = 64
"""How many opened parcels a member keeps."""


@dataclass(frozen=True, slots=True)
class SharedValue:
    """Stand for a value that was put into the cluster once. Get it from `ReplicaPool.share`.

    Give it as an item, or as an argument, of a call: the function gets the value.

    Args:
        key: Which value it is.
        reference: The cluster's own reference.
    """

    key: str
    reference: Any = field(repr=False, compare=False, default=None)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Hold a frozen function.

    Args:
        key: Made from its content: equal functions are opened once.
        frozen: The function as bytes, unless it is large.
        reference: Where the bytes are, if it is.
    """

    key: str
    frozen: bytes | None
    reference: Any = field(repr=False, compare=False, default=None)


def pack(cluster: Cluster, function: Callable[..., Any]) -> Parcel:
    """Freeze a function, as it is now, for all its calls."""
    frozen = cluster.freeze(function)
    key = hashlib.blake2b(frozen, digest_size=16).hexdigest()
    if len(frozen) <= INLINE_BYTES:
        return Parcel(key, frozen)
    return Parcel(key, None, cluster.share(frozen))


class Opened:
    """Open parcels and shared values inside a member, each once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Any] = OrderedDict()

    async def function(self, cluster: Cluster, parcel: Parcel) -> Callable[..., Any]:
        """Return the function."""
        if parcel.key not in self._kept:
            frozen = parcel.frozen
            if frozen is None:
                frozen = await cluster.fetch(parcel.reference)
            self._keep(parcel.key, cluster.thaw(frozen))
        self._kept.move_to_end(parcel.key)
        function: Callable[..., Any] = self._kept[parcel.key]
        return function

    async def arguments(self, cluster: Cluster, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return arguments with the values that shared ones stand for."""
        return tuple([await self._value(cluster, each) for each in args])

    async def _value(self, cluster: Cluster, argument: Any) -> Any:
        if not isinstance(argument, SharedValue):
            return argument
        if argument.key not in self._kept:
            self._keep(argument.key, await cluster.fetch(argument.reference))
        self._kept.move_to_end(argument.key)
        return self._kept[argument.key]

    def _keep(self, key: str, value: Any) -> None:
        self._kept[key] = value
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
