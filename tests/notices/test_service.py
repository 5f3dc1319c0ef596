"""Questions over HTTP: no proxy, no redirect, no end of patience, no end of memory."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import anyio
import pytest

from pool.errors import ConfigError, SourceUnavailable
from pool.notices import AwsSpotInterruption
from pool.notices.service import LARGEST, MetadataService
from pool.testing.notices import FakeAws, FakeGce


def get(url: str, timeout_s: float = 1.0) -> bytes:
    async def main() -> bytes:
        return (await MetadataService("s", url).ask("/", timeout_s=timeout_s)).body

    return anyio.run(main)


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeAws() as proxy, FakeAws() as aws:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        anyio.run(AwsSpotInterruption(aws.url).check, "n", "a")
        assert aws.questions
        assert not proxy.questions


def test_a_redirect_is_no_answer_and_is_not_followed() -> None:
    async def main() -> None:
        with FakeAws() as elsewhere, FakeAws() as aws:
            aws.say_next(200, b"token")
            aws.say_next(302, b"", location=elsewhere.url)
            with pytest.raises(SourceUnavailable, match="redirects"):
                await AwsSpotInterruption(aws.url).check("n", "a")
            assert not elsewhere.questions

    anyio.run(main)


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    with FakeGce() as fake:
        fake.say_next(200, b"x" * (LARGEST + 1))
        with pytest.raises(SourceUnavailable, match="longer"):
            get(fake.url)


def test_nobody_there_is_no_answer() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnavailable, match="Connection"):
            get(f"http://127.0.0.1:{taken.getsockname()[1]}")


class Server:
    """Say something to whoever connects, byte by byte, and for as long as the test lasts."""

    def __init__(self, said: bytes, pause_s: float) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(said, pause_s), daemon=True)
        self._thread.start()

    def _serve(self, said: bytes, pause_s: float) -> None:
        connection, _ = self._listener.accept()
        with connection:
            for byte in said:
                if self._ended.wait(pause_s):
                    return
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()


@pytest.mark.parametrize(
    "said",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"x" * 200, b"HTTP/1.1 200 OK\r\nX: "],
    ids=["body", "head"],
)
def test_an_answer_that_comes_in_drops_is_given_up(said: bytes) -> None:
    server = Server(said + b"y" * 400, 0.05)
    try:
        begun = time.monotonic()
        with pytest.raises(SourceUnavailable):
            get(server.url, timeout_s=0.2)
        assert time.monotonic() - begun < 6
    finally:
        server.close()


def test_a_question_that_hangs_is_asked_once_and_holds_nobody_up() -> None:
    with FakeGce() as fake:
        fake.hangs = True

        async def main() -> None:
            service = MetadataService("s", fake.url)
            with anyio.move_on_after(0.2):
                await service.ask("/", timeout_s=30)
            with pytest.raises(SourceUnavailable, match="last question"):
                await service.ask("/", timeout_s=30)
            fake.hangs = False
            fake.tell_changed()
            with anyio.fail_after(10):
                while True:
                    try:
                        await service.ask("/", timeout_s=5)
                    except SourceUnavailable:
                        await anyio.sleep(0.02)
                    else:
                        break

        anyio.run(main)
        assert len(fake.questions) == 2


def test_a_process_ends_although_a_question_hangs() -> None:
    program = """
import anyio, sys
from pool.notices import GcePreemption

async def main():
    with anyio.move_on_after(0.5):
        await GcePreemption(sys.argv[1]).check("n", "a")

anyio.run(main)
"""
    with FakeGce() as fake:
        fake.hangs = True
        begun = time.monotonic()
        subprocess.run([sys.executable, "-c", program, fake.url], check=True, timeout=60)
        assert time.monotonic() - begun < 8


@pytest.mark.parametrize("url", ["169.254.169.254", "ftp://x", "http://", None, 5])
def test_an_address_that_is_none_is_refused(url: object) -> None:
    with pytest.raises(ConfigError):
        AwsSpotInterruption(url)  # type: ignore[arg-type]


def test_importing_sources_imports_no_requests() -> None:
    program = "import pool, pool.notices, sys; assert 'requests' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
