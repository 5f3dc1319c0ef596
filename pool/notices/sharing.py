"""One process on each node asks; all others that run there hear what it is told.

Metadata services throttle, and a node may hold hosts of many replicas and pools, each a process. So
the first one there takes a name that the kernel gives to one process only, an abstract Unix socket,
and asks; the others connect to it, and are told of each change. When it ends, however it ends,
every connection ends with it: the next one takes the name within milliseconds, and asks on.

A connection may also stay while nobody asks any more, as when the process hangs in a call that
blocks its loop. So the asker speaks at least every `BEAT_S` seconds; whoever hears nothing for
`SILENCE_S` asks for itself, until it is heard again.

Limits: names belong to a network namespace and here also to a user: containers with a network of
their own, and other users, each have an asker of their own. A process of the same user may pretend
to be the asker; it could as well send a signal.

Why not a locked file beside one with the answer: it would be looked at again and again, and a file
system that is full, shared, or read-only would be one more thing to go wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any

from pool.planning.notice import Notice, NoticeKind

BEAT_S = 2.0
SILENCE_S = 7.0
AGAIN_S = 0.05
"""Pause before the name is tried again, when its holder has just gone or is about to listen."""
LARGEST = 256 * 1024

Told = tuple[Notice, ...]
Hear = Callable[[Told], None]
Ask = Callable[[Hear], Coroutine[Any, Any, None]]


async def share(name: str, ask: Ask, hear: Hear) -> None:
    """Hear what is asked under a name on this node, and be the one who asks if nobody else does.

    Args:
        name: What is asked, in words; the same words mean the same question.
        ask: Asks for ever, and passes all that is known on whenever it changes.
        hear: Is told all that is known, in this process, whenever it changes.

    It ends with its cancellation alone; then the name is free at once.
    """
    address = address_of(name)
    while True:
        taken = _take(address)
        if isinstance(taken, socket.socket):
            await _lead(taken, ask, hear)
        elif taken == errno.EADDRINUSE:
            is_heard = await _follow(address, hear)
            if not is_heard:
                await _ask_alone(address, ask, hear)
        else:
            # There are no such names here: nobody can share.
            await ask(hear)
        await asyncio.sleep(AGAIN_S)


def address_of(name: str) -> str:
    """Return the name that the kernel is to give to one process."""
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:32]
    return f"\0pool-notices-{os.getuid()}-{digest}"


def _take(address: str) -> socket.socket | int | None:
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    taken.setblocking(False)
    try:
        taken.bind(address)
    except OSError as error:
        taken.close()
        return error.errno
    return taken


async def _lead(taken: socket.socket, ask: Ask, hear: Hear) -> None:
    writers: set[asyncio.StreamWriter] = set()
    known: list[bytes] = []

    def tell(told: Told) -> None:
        known[:] = [write(told)]
        for writer in list(writers):
            _send(writer, known[0])
        hear(told)

    async def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not _is_ours(writer):
                return
            writers.add(writer)
            for line in known or [b"\n"]:
                _send(writer, line)
            # They say nothing: this ends when they do.
            await reader.read(1)
        except OSError:
            pass
        finally:
            writers.discard(writer)
            writer.close()

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            for writer in list(writers):
                _send(writer, b"\n")

    try:
        server = await asyncio.start_unix_server(admit, sock=taken)
    except BaseException:
        taken.close()
        raise
    beating = asyncio.create_task(beat())
    try:
        await ask(tell)
    finally:
        beating.cancel()
        server.close()
        for writer in list(writers):
            writer.transport.abort()


async def _follow(address: str, hear: Hear) -> bool:
    """Hear the asker until it ends.

    Returns:
        Whether it can be trusted to ask; not so, if it is silent, or somebody else's.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(address, limit=LARGEST)
    except OSError:
        return True  # It has just ended, or does not listen yet.
    try:
        if not _is_ours(writer):
            return False
        while True:
            async with asyncio.timeout(SILENCE_S):
                line = await reader.readline()
            if not line:
                return True
            if line.strip():
                hear(read(line))
    except OSError as error:
        # NB: a TimeoutError is one of them.
        return not isinstance(error, TimeoutError)
    except (ValueError, TypeError):
        return False
    finally:
        writer.transport.abort()


async def _ask_alone(address: str, ask: Ask, hear: Hear) -> None:
    """Ask beside an asker that says nothing, until it does, or has gone."""
    asking = asyncio.create_task(ask(hear))
    try:
        while True:
            await asyncio.sleep(SILENCE_S)
            try:
                reader, writer = await asyncio.open_unix_connection(address, limit=LARGEST)
            except OSError:
                return
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(writer.transport.abort)
                with contextlib.suppress(OSError):
                    async with asyncio.timeout(SILENCE_S):
                        if _is_ours(writer) and await reader.readline():
                            return
    finally:
        asking.cancel()


def _send(writer: asyncio.StreamWriter, line: bytes) -> None:
    # Whoever does not read what it asked for is let go; it comes again.
    if writer.transport.get_write_buffer_size() > LARGEST:
        writer.transport.abort()
        return
    with contextlib.suppress(OSError):
        writer.write(line)


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    peer = writer.get_extra_info("socket")
    found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", found)
    return bool(uid == os.getuid())


def write(told: Told) -> bytes:
    """Write what is known as one line."""
    return json.dumps([asdict(notice) for notice in told]).encode() + b"\n"


def read(line: bytes) -> Told:
    """Read such a line.

    Raises:
        ValueError: Somebody else wrote it, or another version of this package.
        TypeError: Likewise.
    """
    try:
        return tuple(
            Notice(**(fields | {"kind": NoticeKind(fields["kind"])})) for fields in json.loads(line)
        )
    except (LookupError, RecursionError) as error:
        raise ValueError(f"no notices are {line[:80]!r}") from error
