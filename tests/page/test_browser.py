"""The page in a real browser: it loads, follows, shows five hundred slots, in light and in dark."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

import pool
from pool.page.board import Board
from pool.page.page import Site
from pool.page.server import PageServer
from tests.page import browser
from tests.page.browser import Browser
from tests.page.recorded import Json, Recording, crowd, eventful, record
from tests.page.test_story import member, said, slot, snapshot

pytestmark = pytest.mark.skipif(browser.PATH is None, reason="there is no Chromium here")

DRAWN = "Number(document.documentElement?.dataset.version) >= {}"
TILES = "document.querySelectorAll('.slot').length"
EVENTS = "document.querySelectorAll('#events li:not(.none)').length"
RENDERS_S = 20.0
"""Until five hundred slots are on the screen. On two busy cores that takes less than a second;
a page that chokes on them takes minutes."""


@pytest.fixture
def board() -> Iterator[tuple[Board, Site]]:
    board = Board()
    site = Site(board)
    yield board, site
    site.close()


def play(board: Board, recording: Recording) -> None:
    """Tell a board a recording, as if its last moment were now."""
    shift_s = time.time() - recording.moments[-1][0]
    for at, picture, events in recording.moments:
        moved = [{**event, "at": event["at"] + shift_s} for event in events]
        board.publish(at + shift_s, picture, moved)


@pytest.fixture(scope="module")
def life() -> Recording:
    return record(eventful, nodes=20, spares=1, restart=pool.RestartPolicy(intensity=8))


@pytest.mark.parametrize("is_dark", [False, True])
def test_it_loads_without_a_word_in_the_console_and_from_nowhere_else(
    board: tuple[Board, Site], life: Recording, is_dark: bool
) -> None:
    told, site = board
    play(told, life)
    with Browser(is_dark=is_dark) as page:
        page.go(site.url)
        page.until(DRAWN.format(1))
        page.until(f"{TILES} >= 8")
        assert page.get("document.getElementById('link').textContent") == "live"
        ground = page.get("getComputedStyle(document.body).backgroundColor")
        levels = [int(level) for level in ground[4:-1].split(",")]
        assert (max(levels) < 60) == is_dark
        assert page.get("location.hash") == "", "the token does not stay in the address bar"
        page.get(
            "document.querySelector('.slot')"
            ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
        )
        page.until("!document.getElementById('chosen').hidden")
        page.get("document.getElementById('theme').click()")
        assert page.console == []
        assert {url for url in page.requests if not url.startswith(site.address)} == set()


def test_it_follows_what_happens(board: tuple[Board, Site]) -> None:
    told, site = board
    begun = time.time()
    told.publish(begun, snapshot(slot(0, member(age_s=60.0)), slot(1, member(age_s=60.0))))
    with Browser() as page:
        page.go(site.url)
        page.until(f"{TILES} == 2")
        told.publish(
            time.time(),
            snapshot(slot(0, member(age_s=60.0)), slot(1, member("suspect"))),
            [said("member_fault", time.time(), 1, cause="crash", reason="<b>killed</b>")],
        )
        page.until("document.querySelector('[data-slot=\"1\"]').classList.contains('s-suspect')")
        page.until("document.getElementById('events').textContent.includes('<b>killed</b>')")
        assert page.get("document.querySelector('#events li b').textContent") == "member_fault"
        told.complain("the pool cannot be read")
        page.until("document.getElementById('link').textContent.includes('cannot be read')")
        told.close()
        page.until("document.getElementById('link').textContent.includes('closed')")
        assert page.console == []


def test_a_connection_that_is_lost_and_found_shows_every_event_once(
    board: tuple[Board, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    told, site = board
    connections: list[socket.socket] = []
    answer = PageServer.process_request

    def note(server: PageServer, request: Any, client_address: Any) -> None:
        connections.append(request)
        answer(server, request, client_address)

    monkeypatch.setattr(PageServer, "process_request", note)
    now = time.time()
    fault = said("member_fault", now, 0, cause="crash", reason="killed")
    told.publish(now, snapshot(slot(0, member()), slot(1, member())), [fault])
    with Browser() as page:
        page.go(site.url)
        page.until(f"{EVENTS} == 1")
        for connection in connections:
            with contextlib.suppress(OSError):  # It may be closed already.
                connection.shutdown(socket.SHUT_RDWR)
        page.until("document.getElementById('link').className == 'link bad'")
        more = said("member_fault", now + 1, 0, 2, cause="crash", reason="again")
        told.publish(now + 1, snapshot(slot(0, member()), slot(1, member())), [more])
        page.until(f"{EVENTS} >= 2")
        assert page.get(EVENTS) == 2


def test_what_a_pool_says_is_shown_as_text_whatever_it_says(board: tuple[Board, Site]) -> None:
    told, site = board
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    one: Json = {**slot(0, member(health=evil, id=evil)), "reason": evil, "role": evil}
    info = {"hosts": [{"index": 0, "node_id": evil, "processes": [{"name": evil, "state": evil}]}]}
    one["member"]["info"] = info
    told.publish(time.time(), {**snapshot(one), "name": evil, "failed": evil})
    with Browser() as page:
        page.go(f"{site.url}&slot=0")
        page.until(f"{TILES} == 1")
        assert page.get("document.querySelectorAll('img, #main script').length") == 0
        assert evil in page.get("document.getElementById('chosen-body').textContent")
        assert page.console == []


def test_five_hundred_slots_are_drawn_in_time(board: tuple[Board, Site]) -> None:
    told, site = board
    policy = pool.RestartPolicy(intensity=40)
    play(told, record(crowd, nodes=1040, modelled=True, every_s=60, restart=policy))
    with Browser() as page:
        page.go(site.url)
        took_s = page.until(f"{TILES} >= 500", RENDERS_S)
        drawn_ms = page.get("document.documentElement.dataset.drawnMs")
        print(f"500 slots after {took_s:.2f} s, drawn in {drawn_ms} ms")
        assert page.get("document.querySelectorAll('.s-stopping, .s-pending, .s-starting').length")
        assert page.console == []


def test_without_the_token_it_asks_for_it(board: tuple[Board, Site]) -> None:
    told, site = board
    told.publish(time.time(), snapshot(slot(0, member())))
    with Browser() as page:
        page.go(site.address)
        page.until("document.getElementById('ask')?.hidden === false")
        assert page.get("document.getElementById('main').hidden")
        page.get("document.getElementById('token').value = 'wrong'")
        page.get("document.querySelector('#ask button').click()")
        page.until("document.getElementById('refused').textContent.includes('not this page')")
        page.get(f"document.getElementById('token').value = '{site.token}'")
        page.get("document.querySelector('#ask button').click()")
        page.until(f"{TILES} == 1")
