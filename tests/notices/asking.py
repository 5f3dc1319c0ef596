"""What tests of sources share: one question to a source."""

from __future__ import annotations

import anyio

from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice


def ask(source: NodeNoticeSource) -> Notice | None:
    """Ask once, on a loop of its own."""
    return anyio.run(source.check, "node", "127.0.0.1")
