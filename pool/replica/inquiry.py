"""What a pool's window can be asked about the hosts of its replicas: processes and their logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pool.errors import ConfigError
from pool.host.info import HostInfo
from pool.process.logs import Cursor
from pool.window.codec import from_json, to_json
from pool.window.requests import Request, Verb

if TYPE_CHECKING:
    from pool.replica.replica_pool import ReplicaPool

ASK_TIMEOUT_S = 10.0
LOG_BYTES = 64 * 1024


async def ask_host(pool: ReplicaPool, request: Request) -> Any:
    """Ask hosts about their processes, as they are now.

    Raises:
        ConfigError: There is no such slot, host or process.
        MemberLost, CallTimeout: The host does not answer.
    """
    args = request.args
    hosts = _hosts(pool, args.get("slot"), args.get("host"))
    if request.verb is Verb.PROCESSES:
        return [
            {"slot": slot, "host": host.index, "node_id": host.node_id, "process": to_json(status)}
            for slot, host in hosts
            for status in await _about(pool, host, "statuses")
        ]
    if len(hosts) != 1:
        raise ConfigError(f"a log is of one host, and {len(hosts)} are meant", "host")
    [(_, host)] = hosts
    given = args.get("cursor")
    name = args.get("process")
    if not isinstance(name, str):
        raise ConfigError(f"process is {name!r}; give a name", "process")
    if given is None and "lines" in args:
        text, after = await _about(pool, host, "tail_and_end_of_log", name, args["lines"])
        return {"text": text, "cursor": to_json(after)}
    cursor = None if given is None else from_json(Cursor, given)
    text, after = await _about(pool, host, "read_log", name, cursor, LOG_BYTES)
    return {"text": text, "cursor": to_json(after)}


async def _about(pool: ReplicaPool, host: HostInfo, question: str, *args: Any) -> Any:
    return await pool.cluster.call(
        host.actor, "about_process", question, *args, timeout_s=ASK_TIMEOUT_S
    )


def _hosts(pool: ReplicaPool, slot: Any, index: Any) -> list[tuple[int, HostInfo]]:
    """List the hosts that are meant; None means all."""
    found = [
        (member.slot, host)
        for member in pool.members()
        if member.info is not None and slot in (None, member.slot)
        for host in member.info.hosts
        if index in (None, host.index)
    ]
    if not found:
        what = "host" if slot is None else f"host {index or 0} in slot {slot}"
        raise ConfigError(f"pool {pool.name!r} has no {what} that is up", "slot")
    return found
