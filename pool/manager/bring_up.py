"""The way of one member from its slot to `ready`.

Nothing here decides; the plan said `start`. Waiting for a reservation is no failure and has no
limit of its own: `scale` has one, and a cluster without room is not the member's fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel

from pool.cluster.interface import Fault, Identity
from pool.cluster.trace import trace_of
from pool.errors import (
    CallTimeout,
    InfeasibleError,
    MemberFailed,
    Permanent,
    RemoteError,
    ReservationFailed,
    Temporary,
)
from pool.manager.hooks import Hooks
from pool.manager.member import Incarnation, InfoT
from pool.planning.lifecycle import State
from pool.planning.restart import Cause

EXPLAIN_AFTER_S = 5.0
"""A reservation is ready within milliseconds, or it waits for somebody; then say for whom."""
EXPLAIN_EVERY_S = 15.0
RESERVE_AGAIN_S = 2.0
"""Pause after a refusal, so that an empty cluster is not asked in a loop."""

Advance = Callable[[Incarnation[InfoT], State, str], None]


async def bring_up(
    hooks: Hooks[InfoT],
    member: Incarnation[InfoT],
    *,
    start_timeout_s: float,
    advance: Advance[InfoT],
    watch: Callable[[Incarnation[InfoT]], None],
    explain: Callable[[str], None],
) -> None:
    """Reserve, start, and wait until the member is ready.

    Args:
        hooks: The manager's steps.
        member: The incarnation; what it comes to own is written into it at once, so that a
            cancellation at any point loses nothing (INV-4).
        start_timeout_s: Seconds from its actor's start to ready.
        advance: Moves the member to a state, with the reason.
        watch: Begins to hold the member's lifeline.
        explain: Is told what the reservation waits for.
    """
    is_adopted = member.actor is not None
    if member.actor is None:
        await _reserve(hooks, member, explain)
        # A plan may have ended the member meanwhile; then no further state is entered.
        await anyio.lowlevel.checkpoint_if_cancelled()
        advance(member, State.STARTING, "its reservation is ready")
        spec = await hooks.describe_member(member.identity, member.reservation)
        spec = replace(spec, lease=hooks.lease, detached=hooks.detached)
        member.actor = await hooks.cluster.start(spec)
    watch(member)
    # NB: not `fail_after`. What its start raises may be a TimeoutError as well, with other words.
    with anyio.move_on_after(start_timeout_s) as scope:
        # Who is ready already answers at once, with what it said when it got ready.
        member.info = await hooks.open_member(member.actor, start_timeout_s)
        member.has_opened = True
        _check_info(hooks, member.info)
        if is_adopted:
            # Its last owner may have begun to drain it.
            await hooks.restore_member(member.actor)
    if scope.cancelled_caught:
        raise CallTimeout(f"it was not ready within its start time-out of {start_timeout_s:g} s")


def _check_info(hooks: Hooks[InfoT], info: object) -> None:
    wanted = hooks._info_kind
    if not isinstance(info, wanted):
        raise Permanent(
            f"{type(hooks).__name__}.open_member returned {_kind(info)}; return the "
            f"{wanted.__name__} that super().open_member() returns"
        )


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


async def _reserve(
    hooks: Hooks[InfoT], member: Incarnation[InfoT], explain: Callable[[str], None]
) -> None:
    while True:
        failed: ReservationFailed | InfeasibleError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_explain_wait, hooks, member, explain)
            try:
                # NB: written down before the next `await`, where a cancellation would lose it.
                member.reservation = await hooks.reserve(member.identity)
            except (ReservationFailed, InfeasibleError) as error:
                failed = error
            tasks.cancel_scope.cancel()
        if failed is None:
            return
        explain(str(failed))
        await anyio.sleep(RESERVE_AGAIN_S)


async def _explain_wait(
    hooks: Hooks[InfoT], member: Incarnation[InfoT], explain: Callable[[str], None]
) -> None:
    await anyio.sleep(EXPLAIN_AFTER_S)
    while True:
        explain(await why_it_waits(hooks, member.identity))
        await anyio.sleep(EXPLAIN_EVERY_S)


async def why_it_waits(hooks: Hooks[Any], identity: Identity) -> str:
    """Return what a member's reservation waits for, or why that is not known."""
    try:
        return await hooks.explain_wait(identity)
    except Exception as error:
        return f"why it waits could not be found out: {error!r}"


def fault_of(error: Exception) -> Fault:
    """Say what an exception of a hook means for the member."""
    match error:
        case Permanent():
            return Fault(Cause.VERDICT, str(error))
        case Temporary():
            return Fault(Cause.TEMPORARY, str(error), retry_in_s=error.delay_s)
        case MemberFailed():
            return Fault(Cause(error.cause), error.detail, error.retry_in_s, trace_of(error))
        case CallTimeout():
            return Fault(Cause.START, str(error))
        case RemoteError():
            return Fault(Cause.START, f"{error.kind}: {error.text}", trace=trace_of(error))
        case _:
            text = f"{type(error).__name__}: {error}".removesuffix(": ")
            return Fault(Cause.START, text, trace=trace_of(error))
