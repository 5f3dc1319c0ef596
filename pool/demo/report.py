"""The demo's end as a document for machines. The package's docstring says what is in it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pool.demo.checks import Check
from pool.demo.corpus import total
from pool.demo.record import Record
from pool.demo.story import Step

SCHEMA = 1


def document(record: Record, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the report as an object that JSON can hold."""
    left = record.left_behind
    return {
        "schema": SCHEMA,
        "ok": all(check.ok for check in checks),
        "error": record.error,
        "versions": {
            "pool": importlib.metadata.version("ray-actor-pool"),
            "python": platform.python_version(),
            "ray": importlib.metadata.version("ray"),
        },
        "took_s": {phase: round(took, 3) for phase, took in record.took_s.items()},
        "job": {
            "passes": len(record.passes),
            "items": record.items_sent,
            "results": record.results,
            "total": asdict(total(record.serial)),
            "packages": {
                package: asdict(counted) for package, counted in sorted(record.serial.items())
            },
        },
        "steps": [_step(step) for step in record.steps],
        "checks": [asdict(check) for check in checks],
        "left_behind": {
            "actors": left.actors,
            "placement_groups": left.placement_groups,
            "processes": left.processes,
            "after_cluster": left.after_cluster,
        },
    }


def _step(step: Step) -> dict[str, Any]:
    def after(at: float | None) -> float | None:
        return None if at is None else round(at - step.at, 4)

    return {
        "name": step.name,
        "what": step.what,
        "at_share": round(step.at_share, 4),
        "at": round(step.at, 3),
        "detected_s": after(step.detected_at),
        "ready_s": after(step.ready_at),
        "left_s": after(step.left_at),
        "results": step.results,
        "victims": list(step.victims),
        "untouched": list(step.untouched),
        "touched": list(step.touched),
    }
