"""One vocabulary: nothing is said that is not in a table, and nothing is in a table for nobody."""

from __future__ import annotations

import ast
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

import pool
from pool.log import ANY, WORDS, Said, Word, say
from pool.manager.events import SAYS, EventLog
from pool.planning.restart import Cause
from tests.page.recorded import eventful, record

FOLDER = Path(pool.__file__).parent
OWN = {"slot", "generation"}
"""Where an event happened: an argument of its own, not a fact."""


@dataclass(frozen=True)
class Call:
    """A place in the code where something is said."""

    where: str
    words: tuple[str, ...]
    facts: frozenset[str]


def calls() -> Iterator[Call]:
    for path in sorted(FOLDER.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from said_in(function, path.relative_to(FOLDER).as_posix())


def said_in(function: ast.AST, file: str) -> Iterator[Call]:
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        if name not in ("emit", "_emit", "say") or file in ("log.py", "manager/events.py"):
            continue
        words = tuple(words_in(node.args[0], function))
        if name == "say" and not words:
            continue  # Another function of that name, which takes a sentence.
        facts = frozenset(key.arg for key in node.keywords if key.arg) - {"exc_info"}
        yield Call(f"{file}:{node.lineno}", words, facts)


def words_in(argument: ast.AST, function: ast.AST) -> Iterator[str]:
    """Find the words that an argument may be, where it is one, or a name that is given one."""
    wanted = [argument]
    if isinstance(argument, ast.Name):
        wanted += [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and any(isinstance(to, ast.Name) and to.id == argument.id for to in node.targets)
        ]
    for each in wanted:
        for node in ast.walk(each):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "EventKind":
                    yield pool.EventKind[node.attr]
                elif node.value.id == "Word":
                    yield Word[node.attr]
    if ast.unparse(argument) == "self.failure":
        yield from (pool.EventKind.POOL_FAILED, pool.EventKind.GANG_FAILED)


TABLE: dict[str, Said] = {
    **{kind.value: said for kind, said in SAYS.items()},
    **{word.value: said for word, said in WORDS.items()},
}


def test_each_word_stands_in_one_table_once() -> None:
    assert set(SAYS) == set(pool.EventKind)
    assert set(WORDS) == set(Word)
    assert not set(map(str, SAYS)) & set(map(str, WORDS))
    assert all(said.text.endswith(".") for said in TABLE.values())


@pytest.mark.parametrize("call", list(calls()), ids=lambda call: call.where)
def test_what_is_said_is_in_the_vocabulary_with_its_facts(call: Call) -> None:
    assert call.words, f"{call.where}: what is said here?"
    for word in call.words:
        known = TABLE[str(word)].facts
        assert call.facts - OWN <= known or ANY in known, f"{call.where} says more of {word}"


def test_what_is_in_the_vocabulary_is_said_somewhere() -> None:
    said = {str(word) for call in calls() for word in call.words}
    silent = set(TABLE) - said
    assert silent == {"follower_failed"} or not silent, "its calls are in the module of events"


def test_nobody_speaks_past_the_vocabulary() -> None:
    """A logger of a module's own could say anything."""
    past = []
    for path in FOLDER.rglob("*.py"):
        file = path.relative_to(FOLDER).as_posix()
        text = path.read_text()
        if file != "log.py" and not file.startswith("demo/"):
            past += [file for word in ("getLogger(", "structlog.get_logger") if word in text]
    assert past == []


def test_facts_that_are_put_together_are_in_the_vocabulary_as_well() -> None:
    """What the code above cannot see: facts by `**`. So an eventful life is looked through."""
    recording = record(eventful, nodes=20, spares=1)
    events = [event for _, _, events in recording.moments for event in events]
    assert len({event["kind"] for event in events}) > 10
    for event in events:
        assert set(event["facts"]) <= TABLE[event["kind"]].facts, event


def test_a_call_past_the_vocabulary_is_found() -> None:
    """Otherwise the tests above would hold whatever the code said."""
    function = ast.parse(
        "def f(self):\n"
        "    say(Word.PORTS_KEPT, colour='blue')\n"
        "    self.emit(kind, what=1)\n"
        "    self.emit(EventKind.LEFTOVER, what=1)\n"
    )
    first, second, third = said_in(function, "x.py")
    assert first.facts - WORDS[Word.PORTS_KEPT].facts
    assert not second.words
    assert third.words == ("leftover",)
    assert third.facts <= SAYS[pool.EventKind.LEFTOVER].facts


@pytest.fixture
def structlog_set_up() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_an_application_gets_json_when_it_wants_json(
    structlog_set_up: None, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()]
    )
    EventLog("p", lambda: 5.0)(
        pool.EventKind.MEMBER_FAULT, 3, 2, cause=str(Cause.CRASH), reason="x"
    )
    say(Word.PORTS_KEPT, member="p/0.1", reason="no answer")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "event": "member_fault", "level": "warning", "pool": "p", "slot": 3, "generation": 2,
        "cause": "crash", "reason": "x",
    }  # fmt: skip
    assert (second["event"], second["level"]) == ("ports_kept", "warning")


def test_without_it_nothing_is_printed(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pool"):
        say(Word.PROGRESS, line="half")
        say(Word.SOURCE_ABSENT, source="gce", reason="silence")
    assert [record.getMessage() for record in caplog.records] == ["event='progress' line='half'"]
    assert capsys.readouterr() == ("", "")


def test_a_process_without_structlog_says_the_same_and_does_not_import_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def speak() -> None:
        log = EventLog("p", lambda: 5.0)
        log(pool.EventKind.MEMBER_FAULT, 3, 2, cause=str(Cause.CRASH), reason="x % y")
        say(Word.SOURCE_ABSENT, source="gce", reason="silence")

    speak()
    monkeypatch.delitem(sys.modules, "structlog")
    speak()
    assert "structlog" not in sys.modules
    by_it, without = (record.getMessage() for record in caplog.records)
    assert by_it == without
    assert without.startswith("event='member_fault' pool='p' slot=3 ")


def test_what_was_raised_is_said_without_structlog_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "structlog")

    def follower(event: pool.Event) -> None:
        raise ValueError("deaf")

    log = EventLog("p", lambda: 5.0)
    log.follow(follower)
    log(pool.EventKind.POOL_OPENED)
    assert "ValueError: deaf" in caplog.text
