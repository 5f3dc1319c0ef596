"""The roll call between two ends on this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import anyio
import pytest

from pool.slurm import rollcall, wire
from pool.slurm.rollcall import Line, RollServer, call

KEY = "the key"


class Desk:
    """What the head would be."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, str]] = []
        self.lost: list[tuple[int, str]] = []
        self.news = asyncio.Event()
        self.server = RollServer(KEY, 3.0, self.hello, self.hear, self.loses)

    def hello(self, message: Mapping[str, Any]) -> str:
        return "" if message["what"] == "hello" else "noted"

    def hear(self, rank: int, message: Mapping[str, Any]) -> None:
        self.heard.append((rank, message["what"]))
        self.news.set()

    def loses(self, rank: int, why: str, is_silent: bool) -> None:
        assert is_silent == ("heard" in why)
        self.lost.append((rank, why))
        self.news.set()

    async def next(self) -> None:
        await self.news.wait()
        self.news.clear()


def play(scene: Callable[[Desk, int], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        desk = Desk()
        claimed = socket.socket()
        claimed.bind(("127.0.0.1", 0))
        await desk.server.open(claimed)
        with anyio.fail_after(30):
            await scene(desk, claimed.getsockname()[1])
        await desk.server.close()

    anyio.run(run)


async def hello(port: int, rank: int, key: str = KEY) -> Line:
    line = await call("127.0.0.1", port, 3.0)
    assert not await line.introduce(key, "hello", rank=rank)
    return line


def test_a_line_that_breaks_is_news_at_once() -> None:
    async def scene(desk: Desk, port: int) -> None:
        line = await hello(port, 3)
        line.say("did")
        await desk.next()
        assert desk.heard == [(3, "did")]
        line.close()
        await desk.next()
        assert desk.lost == [(3, "its node program is gone: the connection was closed")]
        await desk.server.gone()

    play(scene)


def test_who_says_goodbye_is_not_lost() -> None:
    async def scene(desk: Desk, port: int) -> None:
        line = await hello(port, 3)
        line.say("bye")
        line.close()
        await desk.next()
        await desk.server.gone()
        while not desk.lost:
            await desk.next()
        assert desk.lost == [(3, "")]

    play(scene)


@pytest.mark.parametrize("key", ["", "another", "the ke\u00fd"])
def test_who_does_not_know_the_key_is_refused_and_says_nothing(key: str) -> None:
    async def scene(desk: Desk, port: int) -> None:
        line = await call("127.0.0.1", port, 3.0)
        why = await line.introduce(key, "hello", rank=3)
        assert why == "this is the head of another job, or of another run"
        line.say("did")
        assert await line.hear() is None
        assert (desk.heard, desk.lost) == ([], [])
        line.close()

    play(scene)


def test_a_stranger_who_speaks_no_json_is_let_go() -> None:
    async def scene(desk: Desk, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"prove" in await reader.readline()
        assert b"refused" in await reader.readline()
        assert await reader.read() == b""
        writer.close()
        assert (desk.heard, desk.lost) == ([], [])

    play(scene)


def listen(answer: Callable[[bytes], bytes]) -> tuple[str, bytes]:
    """Introduce a node to a stranger; returns why it was not, and all that the stranger heard."""
    heard = b""
    has_left = asyncio.Event()

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(wire.encode("prove", nonce="00"))
        heard += await reader.readline()
        writer.write(answer(heard))
        heard += await reader.read()
        writer.close()
        await writer.wait_closed()
        has_left.set()

    async def run() -> str:
        server = await asyncio.start_server(stranger, "127.0.0.1", 0)
        line = await call("127.0.0.1", server.sockets[0].getsockname()[1], 3.0)
        with anyio.fail_after(30):
            why = await line.introduce(KEY, "hello", 2.0, rank=3)
            line.close()
            await has_left.wait()
        server.close()
        return why

    return anyio.run(run), heard


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: wire.encode("known", proof="00"),
        # What it has just been told is the node's proof, and not a head's.
        lambda heard: wire.encode("known", proof=wire.decode(heard)["proof"]),
        lambda _: wire.encode("welcome"),
        lambda _: b"",
    ],
    ids=["guess", "echo", "welcome", "nothing"],
)
def test_a_stranger_at_the_heads_port_learns_nothing_and_is_not_followed(
    answer: Callable[[bytes], bytes],
) -> None:
    why, heard = listen(answer)
    assert why
    assert KEY.encode() not in heard


def test_a_proof_is_good_for_one_call_only() -> None:
    async def scene(desk: Desk, port: int) -> None:
        one = await call("127.0.0.1", port, 3.0)
        asked = await one.hear()
        assert asked is not None
        proof = wire.prove(KEY, "node", asked["nonce"], "00", "hello", {"rank": 3})
        for line, known in ((await call("127.0.0.1", port, 3.0), "refused"), (one, "known")):
            line.say("hello", rank=3, nonce="00", proof=proof)
            heard = [await line.hear()] if line is one else [await line.hear() for _ in range(2)]
            assert heard[-1] is not None
            assert heard[-1]["what"] == known
            line.close()
        await desk.next()

    play(scene)


def test_who_is_silent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollcall, "BEAT_S", 0.02)

    async def scene(desk: Desk, port: int) -> None:
        line = await hello(port, 3)
        await desk.next()
        assert desk.lost == [(3, "nothing was heard of it for 3 s")]
        line.close()

    play(scene)


def test_beats_keep_a_line_and_are_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollcall, "BEAT_S", 0.01)

    async def scene(desk: Desk, port: int) -> None:
        line = await hello(port, 3)
        async with anyio.create_task_group() as group:
            group.start_soon(line.keep)
            with anyio.move_on_after(0.5):
                while True:
                    await line.hear()
            assert (desk.heard, desk.lost) == ([], [])
            group.cancel_scope.cancel()
        line.close()

    play(scene)


def test_all_are_told_the_end() -> None:
    async def scene(desk: Desk, port: int) -> None:
        lines = [await hello(port, rank) for rank in range(5)]
        for rank, line in enumerate(lines):
            line.say("did")
            while len(desk.heard) <= rank:
                await desk.next()
        desk.server.say("end", text="over")
        for line in lines:
            message = await line.hear()
            assert message is not None
            assert message["text"] == "over"
            line.close()
        await desk.server.gone()

    play(scene)
