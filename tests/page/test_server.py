"""The page's server: what it tells whom, and what it refuses."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import pool
from pool.page import server
from pool.page.board import Board
from pool.page.page import Site
from pool.page.server import FILES, HEADERS, PageServer, is_loopback
from tests.page.test_story import member, slot, snapshot

TOKEN = "a-token-for-tests-only"


@pytest.fixture
def site() -> Iterator[Site]:
    board = Board()
    board.publish(100.0, snapshot(slot(0, member())))
    site = Site(board, token=TOKEN)
    yield site
    site.close()


class Answer:
    def __init__(self, answer: http.client.HTTPResponse, body: bytes) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, body


def ask(
    site: Site, path: str = "/", method: str = "GET", body: str | None = None, **headers: str
) -> Answer:
    connection = http.client.HTTPConnection(site.address.split("/")[2], timeout=10)
    try:
        connection.request(
            method, path, body, {key.replace("_", "-"): text for key, text in headers.items()}
        )
        answer = connection.getresponse()
        is_stream = answer.headers["Content-Type"].startswith("text/event-stream")
        text = answer.fp.readline() + answer.fp.readline() if is_stream else answer.read()
        return Answer(answer, text)
    finally:
        connection.close()


def test_the_page_itself_says_nothing_of_the_pool_and_needs_no_token(site: Site) -> None:
    for path in FILES:
        answer = ask(site, path)
        assert answer.status == 200
        assert b"://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b""), (
            "the page loads nothing from elsewhere"
        )


def test_the_stream_tells_all_to_who_has_the_token(site: Site) -> None:
    answer = ask(site, "/stream", Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200
    event, data = answer.body.splitlines()
    assert event == b"event: told"
    assert json.loads(data.removeprefix(b"data: "))["pool"]["name"] == "p"


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \u00e9"]
)
def test_nobody_else_is_told_anything(site: Site, given: str) -> None:
    headers = {"Authorization": given.encode("latin-1").decode("latin-1")} if given else {}
    answer = ask(site, "/stream", **headers)
    assert answer.status == 401
    assert b"slots" not in answer.body
    assert ask(site, f"/stream?token={TOKEN}").status == 401, "an address gets into logs"
    assert ask(site, "/stream", Cookie=f"token={TOKEN}").status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "", "x{port}"]
)
def test_a_name_that_is_not_its_own_is_refused(site: Site, host: str) -> None:
    """A page of another site whose name was pointed here has that name in `Host`."""
    name = host.format(port=site.port)
    answer = ask(site, "/stream", Host=name, Authorization=f"Bearer {TOKEN}")
    assert answer.status == 421
    assert ask(site, "/", Host=name).status == 421


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_its_own_names_are_answered(site: Site, name: str) -> None:
    assert ask(site, Host=f"{name}:{site.port}").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/stream", 501),
        ("PUT", "/", 501),
        ("DELETE", "/", 501),
        ("OPTIONS", "/stream", 501),
        ("GET", "/../server.py", 404),
        ("GET", "/static/index.html", 404),
        ("GET", "/stream/", 404),
        ("HEAD", "/", 200),
    ],
)
def test_every_answer_has_the_strict_headers_and_nothing_can_be_changed(
    site: Site, method: str, path: str, status: int
) -> None:
    answer = ask(site, path, method, Origin="http://evil.example")
    assert answer.status == status
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert "Python" not in answer.headers["Server"]


def test_a_request_to_read_has_no_body(site: Site) -> None:
    assert ask(site, "/", body="x").status == 400


def is_refused(site: Site) -> bool:
    """Whether a connection is not taken; who left a moment ago may still count."""
    for _ in range(100):
        try:
            ask(site)
        except ConnectionError:
            return True
    return False


def test_too_many_readers_and_too_many_connections_are_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READERS_MAX", 1)
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    other = Site(site.board, token=TOKEN)
    try:
        with socket.create_connection(("127.0.0.1", other.port)) as reader:
            reader.sendall(
                f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{other.port}\r\n"
                f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
            )
            assert reader.recv(12) == b"HTTP/1.1 200"
            assert ask(other, "/stream", Authorization=f"Bearer {TOKEN}").status == 503
            with socket.create_connection(("127.0.0.1", other.port)):
                assert is_refused(other)
    finally:
        other.close()


def test_a_port_that_is_taken_and_a_token_that_could_be_guessed_are_refused(site: Site) -> None:
    with pytest.raises(pool.ConfigError, match="cannot listen"):
        Site(Board(), port=site.port)
    for token in ("short", "a token with spaces in it"):
        with pytest.raises(pool.ConfigError, match="token"):
            Site(Board(), token=token)


def test_a_drawn_token_is_another_each_time() -> None:
    sites = [Site(Board()) for _ in range(2)]
    for one in sites:
        one.close()
        one.close()
    assert sites[0].token != sites[1].token
    assert sites[0].url.endswith(f"#token={sites[0].token}")


def test_a_token_is_compared_in_constant_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Any] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert ask(site, "/stream", Authorization="Bearer a").status == 401
    assert compared == [(b"a", TOKEN.encode())]


def test_what_is_reached_from_outside_is_told_apart() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.5.5.5", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "::", "example", "")))


def test_a_further_name_is_known_where_it_is_given() -> None:
    with PageServer(Board(), host="127.0.0.1", port=0, token=TOKEN, names=["Gate"]) as one:
        assert f"gate:{one.port}" in one.hosts
