"""The roll call: one connection from each node program to the head's, open from start to end.

A process that ends, however it does, has its connections closed by the kernel, so the other side
hears of it at once. A machine that ends, or is cut off, closes nothing: so both sides say something
each second, and who has been silent for too long is lost. What is counted are our own looks, and
not seconds: a loop that ran late has not listened, and so proves nothing (INV-9).

A connection that breaks is not taken up again. The node is lost to the head in that moment, and the
head to the node, which leaves: neither has to guess what the other believes.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from pool.slurm import wire

BEAT_S = 1.0
HELLO_S = 10.0
CONNECT_S = 5.0
LATELY_BEATS = 3
"""Of how many beats none was heard from one who may hang."""
_OF_THE_PROOF = frozenset({"what", "nonce", "proof"})


class Line:
    """One end of a connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silence_s: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._most = max(2, round(silence_s / BEAT_S))
        self._quiet = 0
        self.is_silent = False
        """Whether it was closed because nothing came any more."""
        raw = writer.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def was_heard_lately(self) -> bool:
        """Whether the other end lives."""
        return self._quiet <= LATELY_BEATS

    @property
    def own_address(self) -> str:
        """This end's address."""
        return str(self._writer.get_extra_info("sockname")[0])

    def say(self, what: str, **fields: Any) -> None:
        """Send a message. It never waits; a closed line takes it and is silent."""
        if not self._writer.is_closing():
            self._writer.write(wire.encode(what, **fields))

    async def hear(self) -> Mapping[str, Any] | None:
        """Wait for a message; None when there are no more. Beats are heard, and left out."""
        while True:
            try:
                line = await self._reader.readline()
                if not line.endswith(b"\n"):
                    return None
                self._quiet = 0
                message = wire.decode(line)
            except (OSError, ValueError):
                return None
            if message["what"] != "beat":
                return message

    async def introduce(self, key: str, what: str, within_s: float = HELLO_S, **fields: Any) -> str:
        """Say who we are to a head that knows the key as we do; the key itself is not said.

        Returns:
            Why it cannot be done, or nothing.
        """
        answer: Mapping[str, Any] | None = None
        with anyio.move_on_after(within_s):
            asked = await self.hear()
            if asked is None or asked["what"] != "prove":
                return "who listens there is no head"
            nonce = secrets.token_hex(16)
            proof = wire.prove(key, "node", asked.get("nonce"), nonce, what, fields)
            self.say(what, **fields, nonce=nonce, proof=proof)
            answer = await self.hear()
            if answer is not None and answer["what"] == "known":
                wanted = wire.prove(key, "head", nonce, asked.get("nonce"))
                if wire.is_proof(answer.get("proof"), wanted):
                    return ""
                return "who listens there does not know this run's key"
        said = None if answer is None else answer.get("text")
        return str(said or "no answer")

    async def ignore(self) -> None:
        """Hear what comes, and do nothing about it: who hears nothing takes a line for silent."""
        while await self.hear() is not None:
            pass

    async def keep(self) -> None:
        """Say that we live, and close the line when nothing comes any more."""
        while not self._writer.is_closing():
            self.say("beat")
            await anyio.sleep(BEAT_S)
            self._quiet += 1
            if self._quiet > self._most:
                self.is_silent = True
                self._writer.transport.abort()

    async def flush(self, within_s: float = 1.0) -> None:
        """Wait until what was said is on its way."""
        with contextlib.suppress(OSError), anyio.move_on_after(within_s):
            await self._writer.drain()

    def close(self) -> None:
        """Close it; what was said still goes out."""
        self._writer.close()


class RollServer:
    """The head's end: who has called, and is still there.

    Args:
        key: The secret that a caller has to know, and never says.
        silence_s: How long one may be silent.
        hello: Told of a caller; returns why it is refused, or nothing.
        hear: Told of each message, with the rank.
        lost: Told of a rank whose line is closed, why (nothing if it had said goodbye), and
            whether that is as it was silent.
    """

    def __init__(
        self,
        key: str,
        silence_s: float,
        hello: Callable[[Mapping[str, Any]], str],
        hear: Callable[[int, Mapping[str, Any]], None],
        lost: Callable[[int, str, bool], None],
    ) -> None:
        self._key = key
        self._silence_s = silence_s
        self._hello = hello
        self._hear = hear
        self._lost = lost
        self._lines: dict[int, Line] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def ranks(self) -> frozenset[int]:
        """Who is on the line."""
        return frozenset(self._lines)

    @property
    def heard_lately(self) -> frozenset[int]:
        """Who is on the line, and does not hang."""
        return frozenset(rank for rank, line in self._lines.items() if line.was_heard_lately)

    async def open(self, claimed: socket.socket) -> None:
        """Listen at a socket that is bound."""
        self._server = await asyncio.start_server(self._serve, sock=claimed, limit=wire.LONGEST)

    def say(self, what: str, **fields: Any) -> None:
        """Say something to everybody."""
        for line in self._lines.values():
            line.say(what, **fields)

    def say_to(self, rank: int, what: str, **fields: Any) -> None:
        """Say something to one, if it is there."""
        if rank in self._lines:
            self._lines[rank].say(what, **fields)

    async def gone(self) -> None:
        """Wait until nobody is on the line. Cancelling ends the wait."""
        await self._empty.wait()

    async def close(self) -> None:
        """Hang up, and let nobody call any more."""
        if self._server is not None:
            self._server.close()
        for line in self._lines.values():
            line.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = Line(reader, writer, self._silence_s)
        try:
            message = await self._introduced(line)
            if message is None:
                line.say("refused", text="this is the head of another job, or of another run")
            elif refusal := self._hello(message):
                line.say("refused", text=refusal)
            else:
                await self._attend(int(message["rank"]), line)
        finally:
            line.close()
            self._tasks.discard(task)

    async def _introduced(self, line: Line) -> Mapping[str, Any] | None:
        """Return a caller's first word, if it knows the key."""
        nonce = secrets.token_hex(16)
        line.say("prove", nonce=nonce)
        with anyio.move_on_after(HELLO_S):
            message = await line.hear()
            if message is None:
                return None
            fields = {name: value for name, value in message.items() if name not in _OF_THE_PROOF}
            theirs = message.get("nonce")
            wanted = wire.prove(self._key, "node", nonce, theirs, message["what"], fields)
            if wire.is_proof(message.get("proof"), wanted):
                line.say("known", proof=wire.prove(self._key, "head", theirs, nonce))
                return message
        return None

    async def _attend(self, rank: int, line: Line) -> None:
        self._lines[rank] = line
        self._empty.clear()
        said_goodbye = False
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(line.keep)
                while (message := await line.hear()) is not None:
                    said_goodbye = said_goodbye or message["what"] == "bye"
                    self._hear(rank, message)
                group.cancel_scope.cancel()
        finally:
            del self._lines[rank]
            if not self._lines:
                self._empty.set()
        if said_goodbye:
            self._lost(rank, "", False)
        elif line.is_silent:
            self._lost(rank, f"nothing was heard of it for {self._silence_s:g} s", True)
        else:
            self._lost(rank, "its node program is gone: the connection was closed", False)


async def call(address: str, port: int, silence_s: float) -> Line:
    """Connect to the head.

    Raises:
        OSError: It does not answer.
    """
    with anyio.move_on_after(CONNECT_S):
        reader, writer = await asyncio.open_connection(address, port, limit=wire.LONGEST)
        return Line(reader, writer, silence_s)
    raise TimeoutError(f"{address}:{port} did not answer in {CONNECT_S:g} s")
