"""Blocking questions in a thread that nobody has to wait for.

A question to a metadata service may hang for a minute, by design (a long poll) or because nobody
answers. The threads of the event loop's own pool are joined when the process ends, so that one such
question would hold up its end; these are daemons.

Limits: a thread that was given up goes on until its question ends by itself. So each `Background`
has one thread at most, and says so to whoever asks again meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from pool.errors import SourceUnavailable

T = TypeVar("T")


class Background:
    """Run one blocking question at a time.

    Args:
        name: What the thread is called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_busy = False

    async def run(self, question: Callable[[], T], limit_s: float) -> T:
        """Ask in a thread, and wait for the answer.

        Raises:
            SourceUnavailable: There was no answer within `limit_s` seconds, or the last question
                has not ended yet.
            Exception: What the question raised.

        Cancelling it leaves the question to its thread.
        """
        if self._is_busy:
            raise SourceUnavailable(f"{self._name}: its last question has no answer yet")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def ask() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = question()
            except BaseException as raised:
                error = raised
            self._is_busy = False
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, error)

        self._is_busy = True
        threading.Thread(target=ask, name=f"pool {self._name}", daemon=True).start()
        try:
            async with asyncio.timeout(limit_s):
                return await answer
        except TimeoutError as error:
            if answer.done() and not answer.cancelled():
                raise
            raise SourceUnavailable(f"{self._name}: no answer within {limit_s:g} s") from error
