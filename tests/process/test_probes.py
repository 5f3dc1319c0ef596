"""Probes: asked of real sockets, servers, files and logs; what they see is said in a few words."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError, SourceUnavailable
from pool.planning.health import HealthPolicy, Verdict
from pool.process import logs, probes
from pool.process.checks import until_ready, while_alive
from pool.process.probes import Probe, Site, file, function, http, log, tcp


def a_site(tmp_path: Path = Path("/nowhere"), **ports: int) -> Site:
    return Site(
        name="engine",
        address="127.0.0.1",
        ports=ports,
        cwd=str(tmp_path),
        log=tmp_path / "engine.log",
    )


def ask(probe: Probe, site: Site, within_s: float = 2) -> str:
    async def main() -> str:
        try:
            return await probe.check(site, within_s)
        finally:
            probes.close(site)

    return asyncio.run(main())


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[int]:
    with socket.create_server((host, 0)) as server:
        yield server.getsockname()[1]


def a_closed_port() -> int:
    with listening() as port:
        return port


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its own name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def answering(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def test_tcp_holds_while_somebody_listens() -> None:
    with listening() as port:
        assert ask(tcp(port), a_site()) == ""
        assert ask(tcp("http"), a_site(http=port)) == ""
    assert ask(tcp(port), a_site()) == f"127.0.0.1:{port}: connection refused"
    assert tcp("http").ports == ("http",)
    assert tcp(80).ports == ()


def test_a_process_may_listen_at_either_address_of_its_node() -> None:
    site = Site(name="engine", address="127.0.0.2")
    with listening("127.0.0.2") as port:
        assert ask(tcp(port), site) == ""
        assert "refused" in ask(tcp(port, host="127.0.0.1"), site)
    with serving(answering(200)) as port:
        assert ask(http("/", port=port), site) == ""
        assert "refused" in ask(http("/", port=port, host="127.0.0.2"), site)


def test_http_wants_its_status_and_follows_no_redirect() -> None:
    with serving(answering(503)) as port:
        seen = ask(http("/health?a=b", port=port), a_site())
        assert seen == f"http://127.0.0.1:{port}/health?a=b: status 503 Service Unavailable"
        assert ask(http("/health", port="web", status=503), a_site(web=port)) == ""
    with serving(answering(302, Location="http://127.0.0.1:1/")) as port:
        assert ask(http("/", port=port), a_site()).endswith("status 302 Found")
    assert ask(http("/", port=port), a_site()).endswith("/: connection refused")


def test_http_uses_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(answering(200)) as port:
        assert ask(http("/", port=port), a_site()) == ""


@pytest.mark.parametrize(
    ("wanted", "body", "seen"),
    [
        ({"ok": True}, b'{"ok": true, "more": 1}', ""),
        ({"a": {"b": [1, 2]}}, b'{"a": {"b": [1, 2], "c": 3}}', ""),
        ([], b"[]", ""),
        ({"ok": True}, b'{"ok": 1}', '{"ok": 1}'),
        ({"ok": True}, b'{"ok": false}', '{"ok": false}'),
        ({"ok": True}, b"[]", "[]"),
        ({"ok": True}, b"loading", "no JSON, but loading"),
        ({"ok": True}, b"x" * 2_000_000, "a body of more than 1048576 bytes"),
    ],
)
def test_http_compares_what_json_it_is_told_to(wanted: Any, body: bytes, seen: str) -> None:
    with serving(answering(200, body)) as port:
        assert ask(http("/", port=port, json=wanted), a_site()).endswith(seen)
        assert bool(seen) == bool(ask(http("/", port=port, json=wanted), a_site()))


def test_http_does_not_wait_longer_than_it_is_given() -> None:
    over = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        over.wait(5)

    with serving(hang) as port:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no answer in 0\.2 s"):
            ask(http("/", port=port), a_site(), within_s=0.2)
        assert time.monotonic() - began < 2
        over.set()


def test_http_does_not_wait_for_a_body_that_drips() -> None:
    over = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while not over.wait(0.02):
                request.wfile.write(b" " * 4096)
        except OSError:
            pass

    with serving(drip) as port:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="did not end in time"):
            ask(http("/", port=port, json={}), a_site(), within_s=0.3)
        assert time.monotonic() - began < 2
        over.set()


def test_a_log_probe_sees_only_what_this_start_wrote(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_text("ready to serve\n")
    site = Site(name="engine", address="", log=path, log_begin=logs.end(path))
    probe = log(r"ready to \w+$")
    assert ask(probe, site) == "it wrote nothing yet"
    with path.open("a") as output:
        output.write("--- 2026-01-01T00:00:00Z engine: sh -c echo ready to serve\n")
    assert ask(probe, site) == "it wrote nothing yet", "what it was started with is no output"
    with path.open("a") as output:
        output.write("loading\nalmost rea")
        output.flush()
        assert ask(probe, site) == "no line matches 'ready to \\\\w+$'; the last is almost rea"
        output.write("dy to")
        output.flush()
        path.rename(f"{path}.1")
    path.write_text(" serve")
    assert ask(probe, site) == "", "found in a line that a rotation cut and that has no end yet"
    path.write_text(" serve\nmore\n")
    assert ask(probe, site) == ""
    assert ask(probe, site) == "", "and it stays found"


def test_a_file_from_before_the_start_does_not_count(tmp_path: Path) -> None:
    probe, site = file("up"), a_site(tmp_path)
    probe.prepare(site)
    assert ask(probe, site) == f"no file {tmp_path}/up"
    (tmp_path / "up").touch()
    assert ask(probe, site) == ""
    again = a_site(tmp_path)
    probe.prepare(again)
    assert ask(probe, again) == f"{tmp_path}/up is from before this start"
    (tmp_path / "up").write_text("again")
    assert ask(probe, again) == ""
    assert ask(file(tmp_path / "up"), a_site(Path("/"))) == ""


def test_a_function_says_so_with_something_true() -> None:
    def ready(site: Site) -> object:
        return site.ports.get("http")

    async def ready_soon(site: Site) -> bool:
        return "http" in site.ports

    for probe in (function(ready), function(ready_soon)):
        assert ask(probe, a_site(http=1)) == ""
    assert ask(function(ready), a_site()) == "ready returned None"
    assert ask(function(ready_soon), a_site()) == "ready_soon returned False"
    assert ask(function(lambda site: 1 // 0), a_site()).startswith("<lambda> raised ZeroDiv")


def test_a_function_may_say_that_it_could_not_ask() -> None:
    def ready(site: Site) -> bool:
        raise SourceUnavailable("the registry is down")

    with pytest.raises(SourceUnavailable):
        ask(function(ready), a_site())


def test_a_slow_function_is_called_once_and_its_answer_awaited() -> None:
    calls: list[float] = []

    def warm_up(site: Site) -> bool:
        calls.append(time.monotonic())
        time.sleep(0.3)
        return True

    async def main() -> str:
        site, probe = a_site(), function(warm_up)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await probe.check(site, 0.05)
        return await probe.check(site, 5)

    assert asyncio.run(main()) == ""
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: tcp(0), "port"),
        (lambda: tcp(True), "port"),
        (lambda: tcp("80"), "port"),
        (lambda: tcp(80, host=""), "host"),
        (lambda: http("health", port=80), "path"),
        (lambda: http("/", port=65_536), "port"),
        (lambda: http("/", port=80, status=20), "status"),
        (lambda: http("/", port=80, json={1, 2}), "json"),
        (lambda: log("("), "pattern"),
        (lambda: log(""), "pattern"),
        (lambda: file(""), "path"),
        (lambda: function(3), "ask"),  # type: ignore[arg-type]
    ],
)
def test_a_value_that_cannot_be_right_is_refused(make: Callable[[], Probe], field: str) -> None:
    with pytest.raises(ConfigError, match=r"is .*; give") as refusal:
        make()
    assert refusal.value.field == field


def test_probes_can_be_sent() -> None:
    for probe in (tcp(80), http("/", port="a", json={"a": 1}), log("x"), file("y"), function(repr)):
        assert pickle.loads(pickle.dumps(probe)) == probe


scalars = st.none() | st.booleans() | st.integers() | st.text()
trees = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)


@given(trees, st.dictionaries(st.text(), trees))
def test_what_json_is_wanted_holds_of_itself_and_of_more(wanted: Any, more: dict[str, Any]) -> None:
    found = json.loads(json.dumps(wanted))
    assert probes._holds(wanted, found)
    if isinstance(wanted, dict):
        assert probes._holds(wanted, {**more, **found})


# --- asking again and again ------------------------------------------------------------------


class Scripted(Probe):
    """Answer from a list, the last for ever."""

    def __init__(self, *answers: str | Exception | float) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def check(self, site: Site, within_s: float) -> str:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return answer
        await asyncio.sleep(answer)
        return ""


def test_readiness_is_asked_for_until_it_holds() -> None:
    probe = Scripted("no", SourceUnavailable("x"), TimeoutError("slow"), ValueError("odd"), "")
    assert asyncio.run(until_ready(probe, a_site(), 10)) == ""
    assert probe.asked == 5


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        (("loading",), "loading"),
        ((SourceUnavailable("no socket"),), "it could not ask: no socket"),
        ((10.0,), "no answer"),
        (("loading", 10.0), "loading"),
        ((ValueError("odd"),), "it raised ValueError('odd')"),
    ],
)
def test_readiness_that_never_comes_tells_what_was_last_seen(
    answers: tuple[Any, ...], seen: str
) -> None:
    assert asyncio.run(until_ready(Scripted(*answers), a_site(), 0.2)) == seen


def watch(probe: Probe, policy: HealthPolicy) -> tuple[str, list[Verdict]]:
    verdicts: list[Verdict] = []

    async def main() -> str:
        return await while_alive(
            probe, a_site(), policy, lambda verdict, why: verdicts.append(verdict)
        )

    return asyncio.run(main()), verdicts


QUICK = HealthPolicy(period_s=0.01, timeout_s=0.2, failures=2, grace_s=0)


def test_only_failures_in_a_row_end_a_process() -> None:
    why, verdicts = watch(Scripted("", "ill", "", "ill", TimeoutError("late")), QUICK)
    well, suspect = Verdict.HEALTHY, Verdict.SUSPECT
    assert verdicts == [well, suspect, well, suspect, Verdict.FAILED]
    assert why == "it did not answer in time (late): failure 2 of 2 in a row"


def test_what_could_not_be_asked_is_no_failure() -> None:
    """INV-9."""
    unknown = [SourceUnavailable("no socket")] * 5
    why, verdicts = watch(Scripted("ill", *unknown, "ill"), QUICK)
    assert verdicts == [Verdict.SUSPECT, *[Verdict.UNCHANGED] * 5, Verdict.FAILED]
    assert "ill" in why


def test_a_loop_that_ran_late_proves_nothing_about_the_process() -> None:
    """INV-9."""

    class Asleep(Scripted):
        async def check(self, site: Site, within_s: float) -> str:
            if self.asked < 3:
                self.asked += 1
                time.sleep(within_s * 0.9)  # noqa: ASYNC251  # that is the point
                await asyncio.sleep(10)
            return await super().check(site, within_s)

    _, verdicts = watch(Asleep("ill"), QUICK)
    assert verdicts == [Verdict.UNCHANGED] * 3 + [Verdict.SUSPECT, Verdict.FAILED]


def test_silence_is_a_failure_when_we_were_on_time() -> None:
    why, verdicts = watch(Scripted(10.0), QUICK)
    assert verdicts == [Verdict.SUSPECT, Verdict.FAILED]
    assert "no answer in 0.2 s" in why
