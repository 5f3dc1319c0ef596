"""What a pool's window shows of it: its snapshot and its events, in the words of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pool.manager.events import Event
from pool.manager.snapshot import MemberSnapshot, SlotSnapshot
from pool.window.codec import to_json
from pool.window.display import Display

if TYPE_CHECKING:
    from pool.manager.manager import ResourcePoolManager


def picture(pool: ResourcePoolManager[Any]) -> Mapping[str, Any]:
    """Return what is shown of a pool. `docs/reference/cli-json.md` describes it."""
    snapshot = pool.snapshot()
    slots = [
        to_json(slot) if slot.member is None else _shown(pool, slot, slot.member)
        for slot in snapshot.slots
    ]
    policy = pool.policies.restart
    return {
        "pool": pool.name,
        "instance": pool.instance,
        "kind": type(pool).__name__,
        "owner": None if pool.is_left else pool.cluster.whoami(),
        "epoch": pool.epoch,
        "detached": pool.detached,
        "closing": not pool.is_open and not pool.is_left,
        "most": pool.most,
        "restart": {
            "intensity": policy.intensity,
            "period_s": policy.period_s,
            "budgets": {str(cause): limit for cause, limit in policy.budgets.items()},
        },
        "snapshot": {**to_json(replace(snapshot, slots=())), "slots": slots},
    }


def _shown(
    pool: ResourcePoolManager[Any], slot: SlotSnapshot, member: MemberSnapshot
) -> dict[str, Any]:
    info = None if member.info is None else dict(pool.show_info(member.info))
    shown = to_json(replace(member, info=None))
    return {**to_json(replace(slot, member=None)), "member": {**shown, "info": info}}


def note(display: Display | None, event: Event) -> None:
    """Let an event be shown."""
    if display is not None:
        display.note(
            {
                "kind": event.kind.value,
                "at": event.at,
                "slot": event.slot,
                "generation": event.generation,
                "facts": {key: to_json(value) for key, value in event.facts.items()},
            }
        )
