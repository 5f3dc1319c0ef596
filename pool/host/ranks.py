"""The rank actors of one host: a nested pool, and the two steps of their start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pool.cluster.at_once import at_once
from pool.cluster.interface import ActorSpec, Fault, Identity, Reservation
from pool.errors import StartFailed
from pool.host.allotments import Allotment, Allotments
from pool.host.info import RankInfo
from pool.host.rank_body import RankBody
from pool.host.staffing import Staffing
from pool.manager.bring_up import fault_of
from pool.manager.nest import Nest
from pool.manager.nested import GANG, NestedPool
from pool.planning.drain import child_budget
from pool.planning.resources import Resources
from pool.planning.shares import plan_peers


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSpec:
    """Say what the rank actors of a host are.

    Args:
        count: How many; None starts one per device, and one where there is none.
        label: The name that process lists show.
        variables: Further environment variables.
        runtime_env: Ray's runtime environment.
    """

    count: int | None = None
    label: str
    variables: dict[str, str] = field(default_factory=dict)
    runtime_env: dict[str, Any] | None = None


class RankPool(NestedPool[RankInfo]):
    """Keep the processes of a host's rank actors; the first that is lost is the host's failure.

    Args:
        staffing: Describes workers.
        spec: What the rank actors are.
        allotments: What each holds, by local number.
        on_failed: Is told which of them failed, and why.
    """

    level = "rank"
    part = "rank actor"

    def __init__(
        self,
        staffing: Staffing,
        spec: RankSpec,
        allotments: Sequence[Allotment],
        on_failed: Callable[[int, Fault], None],
    ) -> None:
        policies = staffing.plan.policies
        super().__init__(
            staffing.context.identity,
            staffing.place.reservation,
            staffing.context.cluster,
            replace(policies, restart=GANG, start_timeout_s=child_budget(policies.start_timeout_s)),
            on_failed,
            lease_left_s=staffing.context.lease_left_s,
        )
        self._staffing = staffing
        self._spec = spec
        self._allotments = allotments

    async def describe_member(
        self, identity: Identity, reservation: Reservation | None
    ) -> ActorSpec:
        """Say what the process of one rank actor is."""
        spec = self._spec
        return self._staffing.worker(
            RankBody,
            identity,
            self._allotments[identity.slot],
            variables=spec.variables,
            runtime_env=spec.runtime_env,
            label=spec.label,
        )


class LocalRanks:
    """Start the rank actors of a host, and end them with it.

    Args:
        staffing: Describes workers.
        spec: What they are.
        allotments: Who holds what of the bundle.
        on_failed: Is told why this host is lost with one of them.
    """

    def __init__(
        self,
        staffing: Staffing,
        spec: RankSpec,
        allotments: Allotments,
        on_failed: Callable[[Fault], None],
    ) -> None:
        self._staffing = staffing
        self._spec = spec
        self._allotments = allotments
        self._on_failed = on_failed
        self._nest: Nest[RankPool] | None = None
        self._places: tuple[RankInfo, ...] = ()

    async def bring_up(self) -> tuple[RankInfo, ...]:
        """Start the processes, all at once, and return where they are, by their devices.

        Which device a process gets is Ray's choice, and so local ranks are given out after it.

        Raises:
            StartFailed: One did not get ready, with its own reason.
            ConfigError: The bundle cannot be divided by so many.
        """
        bundle, device = self._staffing.place.bundle, self._staffing.plan.device
        count = self._spec.count or max(1, math.floor(bundle.get(device, 0)))
        shares = plan_peers(count, bundle, device=device).shares
        held = [await self._hold(number, share) for number, share in enumerate(shares)]
        self._nest = Nest(RankPool(self._staffing, self._spec, held, self._fail))
        try:
            found = await self._nest.bring_up(count)
        except StartFailed as error:
            raise self._failed(error) from None
        self._places = tuple(
            replace(info, local_rank=number)
            for number, info in enumerate(sorted(found, key=lambda info: _by_device(info, device)))
        )
        return self._places

    async def _hold(self, number: int, share: Resources) -> Allotment:
        return await self._allotments.take(share, f"rank actor {number}")

    def _fail(self, number: int, fault: Fault) -> None:
        self._on_failed(replace(fault, detail=f"rank actor {number}: {fault.detail}"))

    async def begin(
        self, frozen: bytes, environments: Sequence[Mapping[str, str]], first: int
    ) -> tuple[RankInfo, ...]:
        """Make the user's objects, all at once, each in its environment, by local rank.

        Args:
            frozen: The class and its constructor's arguments.
            environments: One for each local rank.
            first: The rank of the first of them.

        Raises:
            StartFailed: An object could not be made, with what its constructor, or `start`, raised.
        """
        cluster = self._staffing.context.cluster
        places = [replace(info, rank=first + number) for number, info in enumerate(self._places)]
        begun = list(places)

        async def begin(number: int) -> None:
            place = places[number]
            try:
                begun[number] = await cluster.call(
                    place.actor, "begin", frozen, environments[number], place
                )
            except Exception as error:
                raise self._failed(error, f"rank {place.rank}: ") from error

        await at_once(begin, len(places))
        return tuple(begun)

    def _failed(self, error: Exception, who: str = "") -> StartFailed:
        """Return what to tell of a start that failed, with the host that it was on."""
        fault = fault_of(error)
        place, member = self._staffing.place, self._staffing.context.identity.member
        detail = f"host {place.index}: {who}{fault.detail}"
        return StartFailed(member, fault.cause, detail, fault.retry_in_s, fault.trace)

    async def drain(self, budget_s: float) -> None:
        """Let every rank actor finish the call that is under way."""
        if self._nest is not None:
            await self._nest.drain(budget_s)

    async def restore(self) -> None:
        """Let every rank actor take calls again."""
        if self._nest is not None:
            await self._nest.restore()

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        """Put all of them down, and return what went wrong with which."""
        return () if self._nest is None else await self._nest.close(budget_s)


def _by_device(info: RankInfo, device: str) -> tuple[tuple[bool, int, str], ...]:
    ids = info.devices.get(device, ())
    return tuple((not each.isdigit(), int(each) if each.isdigit() else 0, each) for each in ids)
