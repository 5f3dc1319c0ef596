"""`SlicePool`: replicas that are whole TPU slices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import anyio

from pool.cluster.interface import Cluster, Identity, Reservation
from pool.errors import ReservationFailed
from pool.manager.events import EventKind
from pool.manager.succession import make_again
from pool.planning.slice_placement import Slices
from pool.planning.slices import SliceType
from pool.planning.topology import NodeSelector
from pool.replica.replica_pool import ReplicaPool


class SlicePool(ReplicaPool):
    """Keep replicas that are whole TPU slices: each has every host of one, with all of its chips.

    A replica's hosts are in the order of the slice's workers. A slice with a host missing, draining
    or about to leave is not used, and one that loses a host, or gets a notice for one, is replaced
    whole; growing touches no other. Which nodes are a slice is what Ray's labels of them say.

    Args:
        name: The pool's name.
        slice_type: The type of slice, as in Ray's label `ray.io/tpu-pod-type`: "v4-16", "v6e-8".
        chips: How many `TPU` all hosts of a slice have together; found from its type when left
            out. Give it where Ray counts several devices a chip.
        cpus_per_chip: CPUs of its host for each chip.
        memory_bytes_per_chip: Memory of its host for each chip.
        selector: The nodes that may be used; a slice with another one is not. Any by default.
        clamp: Whether a size beyond the slices there are is brought down to them, with an event
            `pool_clamped`. By default it is refused. With several sizes it changes nothing, as the
            largest of them that can be had is taken.
        **options: Those of `ReplicaPool`, but for `shape` and `placement`.

    Raises:
        ConfigError: A value cannot be right, or this process is not connected to Ray.
    """

    def __init__(
        self,
        name: str,
        *,
        slice_type: str,
        chips: int | None = None,
        cpus_per_chip: float = 1,
        memory_bytes_per_chip: int = 0,
        selector: NodeSelector | None = None,
        clamp: bool = False,
        **options: Any,
    ) -> None:
        grows = options.get("cluster_grows", False)
        self._slices = Slices(SliceType.parse(slice_type, chips), grows)
        self._clamps = clamp
        shape = self._slices.shape(
            cpus_per_chip=cpus_per_chip,
            memory_bytes_per_chip=memory_bytes_per_chip,
            selector=selector,
        )
        super().__init__(name, shape=shape, placement=self._slices, **options)

    def recipe(self) -> Callable[[Cluster], Any]:
        made = super().recipe()
        assert isinstance(made, functools.partial)
        options = dict(made.keywords)
        shape, _ = options.pop("shape"), options.pop("placement")
        return functools.partial(
            make_again,
            *made.args,
            slice_type=self._slices.kind.name,
            chips=self._slices.kind.chips,
            cpus_per_chip=shape.cpus_per_device,
            memory_bytes_per_chip=shape.memory_bytes_per_device,
            selector=shape.selector,
            clamp=self._clamps,
            **options,
        )

    async def check_size(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if self._clamps and not self._grows and len(sizes) == 1 and sizes[0]:
            topology = await self.cluster.topology()
            most = self._slices.capacity(self.shape, sizes[0], topology)
            if 0 < most.replicas < sizes[0]:
                self.emit(
                    EventKind.POOL_CLAMPED,
                    asked=sizes[0],
                    desired=most.replicas,
                    reason=most.reason,
                )
                sizes = (most.replicas,)
        return await super().check_size(sizes)

    async def reserve(self, identity: Identity) -> Reservation:
        try:
            reservation = await super().reserve(identity)
        except ReservationFailed as error:
            raise ReservationFailed(await self.explain_wait(identity)) from error
        try:
            is_slice = self._slices.is_slice(reservation.nodes, await self.cluster.topology())
            if not is_slice:
                raise ReservationFailed("its group was placed on nodes that are not one slice")
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.release(reservation)
            self._seats.not_had(identity.slot)
            raise
        return reservation

    async def explain_wait(self, identity: Identity) -> str:
        why = self._slices.why_not_now(
            self._shape_now(identity.slot), await self.cluster.topology()
        )
        return why or "its placement group is being made"
