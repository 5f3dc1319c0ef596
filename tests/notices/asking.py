"""What tests of sources share: one question to a source, and a source for one node."""

from __future__ import annotations

from pathlib import Path

import anyio

from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice


def ask(source: NodeNoticeSource) -> Notice | None:
    """Ask once, on a loop of its own."""
    return anyio.run(source.check, "node", "127.0.0.1")


class OnlyOn(NodeNoticeSource):
    """Ask a source on the one node that a file names: all nodes of a test's Ray are one machine."""

    def __init__(self, path: Path, source: NodeNoticeSource) -> None:
        self.path = path
        self.source = source
        self.name = source.name
        self.period_s = source.period_s
        self.shared_as = source.shared_as

    async def check(self, node_id: str, address: str) -> Notice | None:
        if not self.path.exists() or self.path.read_text() != node_id:
            return None
        return await self.source.check(node_id, address)
