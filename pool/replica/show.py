"""What the window of a pool shows of a replica: its hosts, and what is known to be on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pool.host.info import HostInfo, ReplicaInfo
from pool.window.codec import to_json


def show_replica(info: ReplicaInfo) -> Mapping[str, Any]:
    """Return what is shown of a replica."""
    return {"hosts": [_show_host(host) for host in info.hosts]}


def _show_host(host: HostInfo) -> Mapping[str, Any]:
    shown: dict[str, Any] = {
        "index": host.index,
        "node_id": host.node_id,
        "address": host.address,
        "pid": host.pid,
        "bundle": dict(host.bundle),
    }
    if host.ranks:
        shown["ranks"] = [
            {"rank": rank.rank, "pid": rank.pid, "devices": to_json(rank.devices)}
            for rank in host.ranks
        ]
    if host.processes:
        shown["processes"] = [to_json(process) for process in host.processes]
    return shown
