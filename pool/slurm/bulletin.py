"""What the head publishes: where it is, and how all is. Pure.

`pool slurm status` reads it, so that nobody has to ask Slurm or a node; `status` says how.
"""

from __future__ import annotations

from typing import Any

from pool.slurm.course import Course
from pool.slurm.driver import Driver, exit_code
from pool.slurm.setting import Setting
from pool.slurm.standing import Standing


def gcs_of(setting: Setting) -> str:
    """Return where the head's Ray listens."""
    return f"{setting.address}:{setting.block['gcs']}"


def card_of(setting: Setting) -> dict[str, Any]:
    """Return what the others need to know of the head."""
    place = setting.place
    return {
        "cluster": place.cluster,
        "job": place.job_id,
        "attempt": place.attempt,
        "host": place.role.host,
        "address": setting.address,
        "call": setting.block["call"],
        "gcs": gcs_of(setting),
    }


def status_of(
    setting: Setting, course: Course, standing: Standing, driver: Driver | None, now: float
) -> dict[str, Any]:
    """Return what `pool slurm status` shows.

    Args:
        setting: The head's node.
        course: How the job goes.
        standing: How everybody is.
        driver: The driver, once it was started.
        now: In UNIX seconds.
    """
    outcome = course.outcome
    return {
        **card_of(setting),
        "name": setting.job.name,
        "phase": course.phase,
        "dashboard": f"{setting.address}:{setting.block['dashboard']}",
        "started_at": course.began_at,
        "ready_at": course.ready_at,
        "updated_at": now,
        **standing.status(),
        "driver": None if driver is None else {
            "pid": driver.pid,
            "exit": None if driver.exit is None else exit_code(driver.exit),
        },
        "notice": course.notice,
        "outcome": None if outcome is None else {"code": outcome.code, "why": outcome.why},
    }  # fmt: skip
