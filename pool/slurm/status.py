"""What `pool slurm status` prints of what a job has published. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

STALE_S = 30.0


def describe(status: Mapping[str, Any], now: float) -> str:
    """Return a status as a text for people."""
    nodes: Sequence[Mapping[str, Any]] = status["nodes"]
    joined = sum(node["state"] == "joined" for node in nodes)
    lines = [
        f"job {status['job']} ({status['name']}), run {status['attempt']}: {status['phase']}, "
        f"{joined} of {len(nodes)} nodes (at least {status['min_nodes']}), "
        f"since {_span(now - status['started_at'])}",
        f"ray {status['gcs']}  dashboard {status['dashboard']}  cluster {status['cluster']}",
    ]
    age_s = now - status["updated_at"]
    if status["phase"] != "ended" and age_s > STALE_S:
        lines.append(f"NB: this is {_span(age_s)} old; the job may be over (squeue tells)")
    if notice := status.get("notice"):
        lines.append(f"notice: {notice['reason']}; {_left(notice['deadline'] - now)}")
    if driver := status.get("driver"):
        ended = driver["exit"]
        lines.append(f"driver: pid {driver['pid']}, {_ended(ended)}")
    if outcome := status.get("outcome"):
        lines.append(f"outcome: {outcome['code']}, {outcome['why']}")
    width = max(len(node["host"]) for node in nodes)
    digits = len(str(len(nodes) - 1))
    for node in nodes:
        text = f"{node['rank']:>{digits}}  {node['host']:<{width}}  {node['state']:<8}"
        lines.append(f"{text}  {node['address'] or '-'}  {node['detail']}".rstrip())
    for service in status.get("services", ()):
        ready = sum(state == "ready" for state in service["states"].values())
        lines.append(f"service {service['name']}: {ready} ready of {service['needed']} needed")
        for rank, said in service["details"].items():
            lines.append(f"  rank {rank}, {service['states'][rank]}: {said}")
    return "\n".join(lines)


def _ended(code: int | None) -> str:
    return "runs" if code is None else f"ended with {code}"


def _left(left_s: float) -> str:
    return f"{left_s:.0f} s are left" if left_s > 0 else "its time is over"


def _span(seconds: float) -> str:
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
