"""Notices from a file on each node, for a site whose agent can write one."""

from __future__ import annotations

import json
from pathlib import Path

import anyio.to_thread

from pool.errors import ConfigError, SourceUnavailable
from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice, NoticeKind

_FIELDS = ("kind", "deadline", "reason", "advisory")
_LARGEST = 64 * 1024


class FileNotice(NodeNoticeSource):
    """Look whether a file is there; while it is, its node is about to go away.

    The file may be empty, or hold a JSON object with any of `kind` (`preempt`, `maintenance`,
    `rebalance`, `walltime`), `deadline` (UNIX seconds), `reason` and `advisory`.

    Args:
        path: Where to look on each node. `{node_id}` and `{address}` in it are filled in, so that
            nodes that share a file system can be told apart.
        period_s: Seconds between two looks.
    """

    def __init__(self, path: str | Path, period_s: float = 1.0) -> None:
        if not str(path):
            raise ConfigError("path is empty; give the file to look for", "path")
        self.path = str(path)
        self.period_s = period_s
        self.name = f"file:{self.path}"

    async def check(self, node_id: str, address: str) -> Notice | None:
        path = Path(self.path.replace("{node_id}", node_id).replace("{address}", address))
        try:
            text = await anyio.to_thread.run_sync(_read, path)
        except OSError as error:
            raise SourceUnavailable(f"{path} cannot be read: {error}") from error
        return None if text is None else parse(text, f"file:{path}")


def parse(text: str, source: str) -> Notice:
    """Read a notice file's text.

    A text that is no valid notice is still a notice: somebody put the file there. Its words
    become the reason.
    """
    stripped = text.strip()
    if not stripped:
        return Notice(kind=NoticeKind.PREEMPT, source=source)
    try:
        fields = json.loads(stripped)
        if not isinstance(fields, dict):
            raise TypeError("it is no JSON object")
        unknown = set(fields) - set(_FIELDS)
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}; known are {list(_FIELDS)}")
        deadline = fields.get("deadline")
        return Notice(
            kind=NoticeKind(fields.get("kind", "preempt")),
            deadline=None if deadline is None else float(deadline),
            source=source,
            reason=str(fields.get("reason", "")),
            advisory=bool(fields.get("advisory", False)),
        )
    except (ValueError, TypeError, RecursionError) as error:
        reason = f"{stripped[:200]} (read as a plain notice: {error})"
        return Notice(kind=NoticeKind.PREEMPT, source=source, reason=reason)


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode(errors="replace")
    except FileNotFoundError:
        return None
