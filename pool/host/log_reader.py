"""The body that reads a log on its node when the host whose log it was is gone."""

from __future__ import annotations

import anyio.to_thread

from pool.process import logs


class LogReader:
    """Read logs."""

    async def check_health(self) -> None:
        """Be well."""

    async def tail(self, path: str, lines: int) -> str:
        """Return the last lines of a log."""
        return await anyio.to_thread.run_sync(lambda: logs.tail(path, lines=lines))

    async def read(
        self, path: str, cursor: logs.Cursor | None, max_bytes: int
    ) -> tuple[str, logs.Cursor]:
        """Return the next lines of a log."""
        return await anyio.to_thread.run_sync(lambda: logs.read(path, cursor, max_bytes=max_bytes))
