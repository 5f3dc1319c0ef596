"""What a pool's window shows of it: its snapshot and its events, in the words of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pool.manager.events import Event
from pool.manager.snapshot import SlotSnapshot
from pool.window.codec import to_json, with_fields
from pool.window.display import Display

if TYPE_CHECKING:
    from pool.manager.manager import ResourcePoolManager


def picture(pool: ResourcePoolManager[Any]) -> Mapping[str, Any]:
    """Return what is shown of a pool. `docs/reference/cli-json.md` describes it."""
    snapshot = pool.snapshot()
    slots = [_shown(pool, slot) for slot in snapshot.slots]
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
        "snapshot": with_fields(snapshot, {"slots": slots}),
    }


def _shown(pool: ResourcePoolManager[Any], slot: SlotSnapshot) -> dict[str, Any]:
    member = slot.member
    if member is None:
        return with_fields(slot, {})
    info = None if member.info is None else pool._shown_info(member.info)
    return with_fields(slot, {"member": with_fields(member, {"info": info})})


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
