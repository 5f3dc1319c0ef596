"""What a subclass may change of a manager: one step it must give, and the others with defaults.

Each hook is called from the manager's own tasks, may be cancelled at any `await`, and may raise:

- `Permanent` says that trying again is no use; the pool fails with that as its cause.
- `Temporary` says when to try again; it replaces the back-off once.
- anything else is a failure of that member, charged to its restart budget.

Hooks that belong to no member's way up or out (`take_notices`, `show_info`, `remember`,
`on_pool_failed`, `check_members`) fail nobody when they raise: it is said, and their default holds.
A hook that cannot be called as it is here is refused where its class is made, by a `ConfigError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic

from pool.cluster.interface import Actor, ActorSpec, Cluster, Identity, Lease, Reply, Reservation
from pool.errors import PoolFailed
from pool.manager.hook_check import check_hooks
from pool.manager.member import InfoT
from pool.planning.notice import Notice


class Hooks(ABC, Generic[InfoT]):
    """Hold the steps in a member's life."""

    cluster: Cluster
    detached: bool
    _info_kind: ClassVar[type] = object
    """What `open_member` has to return."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_hooks(cls, Hooks)

    @property
    @abstractmethod
    def lease(self) -> Lease:
        """What members are granted with each word from this manager."""

    @abstractmethod
    async def describe_member(
        self, identity: Identity, reservation: Reservation | None
    ) -> ActorSpec:
        """Say what a member's actor is. The manager starts it, and it is the manager's to end.

        This is the one step that a subclass must give.

        Args:
            identity: Whom the actor belongs to; pass it on in the `ActorSpec`. Its `revision`
                says which revision of the pool the member is to be made from.
            reservation: What `reserve` returned.
        """

    async def check_size(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return those of `sizes` that the cluster could ever hold.

        It is asked before anything is created.

        Raises:
            InfeasibleError: None of them could.
        """
        return sizes

    async def reserve(self, identity: Identity) -> Reservation | None:
        """Reserve what one member needs, and return when it is there. By default, nothing.

        Raises:
            ReservationFailed, InfeasibleError: Not now. The manager asks again; a cluster that has
                no room is not the member's failure.
        """
        return None

    async def explain_wait(self, identity: Identity) -> str:
        """Say what a reservation that takes long is waiting for."""
        return "its reservation is not ready"

    async def open_member(self, actor: Actor, timeout_s: float) -> InfoT:
        """Wait until the member is ready, and return its info."""
        info: InfoT = await self.cluster.call(actor, "start", timeout_s=timeout_s)
        return info

    async def check_members(self, actors: Sequence[Actor], timeout_s: float) -> list[Reply]:
        """Ask all these members for their health at once, and renew their leases with it.

        It is cancelled, and judges nobody, when it takes three times as long as `timeout_s`.
        """
        return await self.cluster.poll(actors, timeout_s, self.lease)

    async def drain_member(self, actor: Actor, budget_s: float) -> None:
        """Let the member take no new work, and wait until its work in flight is done."""
        await self.cluster.call(actor, "drain", budget_s, timeout_s=budget_s)

    async def restore_member(self, actor: Actor) -> None:
        """Let a draining member take work again."""
        await self.cluster.call(actor, "restore", timeout_s=RESTORE_TIMEOUT_S)

    async def shutdown_member(self, actor: Actor, budget_s: float) -> Sequence[str]:
        """Let the member put down what it started, and return what went wrong, in sentences."""
        troubles = await self.cluster.call(actor, "shutdown", budget_s, timeout_s=budget_s)
        return troubles or ()

    def kill_member(self, actor: Actor, info: InfoT | None) -> None:
        """Initiate the end of the member's actor, and of all that it is known to have started."""
        self.cluster.kill(actor)

    async def release(self, reservation: Reservation) -> None:
        """Give back what `reserve` returned."""
        await self.cluster.release(reservation)

    def show_info(self, info: InfoT) -> Mapping[str, Any]:
        """Return what operators see of a member's info, in the words of JSON; nothing by default.

        It is asked again and again, and must not block.
        """
        return {}

    def can_adopt(self, identity: Identity, reservation: Reservation | None) -> bool:
        """Whether a member that an earlier owner started can be gone on with.

        Args:
            identity: Who it is.
            reservation: Its group, if it has one that is whole.
        """
        return True

    def remember(self) -> Any:
        """Return what this class knows beyond its constructor's arguments, for the next owner."""
        return None

    def recall(self, memory: Any) -> None:
        """Take over what `remember` of the last owner returned."""

    def take_notices(self, identity: Identity, notices: tuple[Notice, ...]) -> bool:
        """Hear all that a member itself says of its nodes, each time it changes.

        Returns:
            Whether the manager is to answer them: replace the member, and drain it in time.
        """
        return True

    def on_pool_failed(self, failure: PoolFailed) -> None:
        """Take note that the pool gave up. It must not block."""


RESTORE_TIMEOUT_S = 5.0
"""Taking work again is a flag in the member; an answer that takes longer is a failure."""
