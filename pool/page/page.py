"""`Page`: the live page of a pool, served from the process that holds it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import anyio

from pool.errors import ConfigError
from pool.manager.events import Event
from pool.manager.manager import ResourcePoolManager
from pool.page.board import Board
from pool.page.server import PageServer, is_loopback
from pool.page.story import event_json

LEAST_SPACING_S = 0.25
SPACING_S_PER_SLOT = 0.001
"""A picture costs the pool's loop some 30 microseconds a slot: so a thirtieth of its time."""
LOOK_AGAIN_S = 1.0
LEAST_TOKEN = 16


class Site:
    """A server of one board, with its thread and its address.

    Args:
        board: What is shown.
        host: The address to listen on: this machine alone, unless you say otherwise.
        port: The port; 0 has one drawn.
        token: What readers have to know; drawn at random when left out.
        names: Further names that the server is known by, for who reaches it by a proxy or tunnel
            of another name.

    Raises:
        ConfigError: The address cannot be listened on, or the token could be guessed.
    """

    def __init__(
        self,
        board: Board,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self.token = secrets.token_urlsafe(24) if token is None else token
        if len(self.token) < LEAST_TOKEN or not self.token.isascii() or " " in self.token:
            raise ConfigError(
                f"the token has {len(self.token)} characters; give {LEAST_TOKEN} or more, ASCII, "
                "without a space, or none to have one drawn",
                "token",
            )
        self.board = board
        self._server = PageServer(board, host=host, port=port, token=self.token, names=names)
        self.is_loopback = is_loopback(host)
        shown = f"[{host}]" if ":" in host else host
        self.port = self._server.port
        self.address = f"http://{shown}:{self.port}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="pool-page", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The address with the token: who has it can read the page."""
        return f"{self.address}#token={self.token}"

    def close(self) -> None:
        """Stop serving. It may be called twice."""
        self.board.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Page:
    """Serve the live page of a pool of this process, for reading only.

    Use it as an async context manager, inside of the pool's block. By default only this machine
    reaches it, and only who has the token in `url` sees anything.

    Args:
        pool: The pool.
        host: The address to listen on. Anything but this machine's own is reached by others, and
            is not encrypted: prefer `ssh -L`.
        port: The port; 0 has one drawn.
        token: What readers have to know; drawn at random when left out.
        names: Further names that the server is known by, as browsers write them.

    Raises:
        ConfigError: The address cannot be listened on, or the token could be guessed.

    Cancelling its block ends the page, and nothing of the pool.
    """

    def __init__(
        self,
        pool: ResourcePoolManager[Any],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self._pool = pool
        self._options: dict[str, Any] = {
            "host": host, "port": port, "token": token, "names": names,
        }  # fmt: skip
        self._site: Site | None = None
        self._new: list[Event] = []

    @property
    def url(self) -> str:
        """The page's address, with the token; there is none outside of the block."""
        if self._site is None:
            raise ConfigError("the page is served inside of `async with` only", "page")
        return self._site.url

    async def __aenter__(self) -> Self:
        site = Site(Board(), **self._options)
        try:
            self._new = list(self._pool.events())
            self._end_following = self._pool.follow(self._new.append)
            self._tasks = anyio.create_task_group()
            await self._tasks.__aenter__()
            self._tasks.start_soon(self._publish_forever, site.board)
        except BaseException:
            # Shielded: a thread and a port must not outlive a block that was never entered.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(site.close)
            raise
        self._site = site
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        site, self._site = self._site, None
        self._end_following()
        self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(kind, error, traceback)
        finally:
            if site is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(site.close)

    async def _publish_forever(self, board: Board) -> None:
        while True:
            slots = 0
            try:
                shown = self._pool.picture()["snapshot"]
                news, self._new[:] = list(self._new), []
                board.publish(time.time(), shown, [event_json(event) for event in news])
                slots = len(shown["slots"])
            except Exception as error:
                # A hook of the user's, say: the page says so, and the pool goes on.
                board.complain(repr(error))
            await anyio.sleep(LEAST_SPACING_S + SPACING_S_PER_SLOT * slots)
            # Calls in flight change without a word.
            with anyio.move_on_after(LOOK_AGAIN_S):
                await self._pool.changed()
