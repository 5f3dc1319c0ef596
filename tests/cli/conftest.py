from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

import pool.cluster.connect
from pool.cli import app
from tests.cli.canned import Canned

Pool = Callable[..., Any]


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Canned:
    """Let every command look at pools that are not there."""
    observer = Canned()
    monkeypatch.setattr(pool.cluster.connect, "observe", lambda address: observer)
    return observer


@pytest.fixture
def run(canned: Canned, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """Return what runs `pool` with arguments, in a terminal of 100 columns, in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    runner = CliRunner(env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})
    yield lambda *words: runner.invoke(app, words)
    monkeypatch.undo()
    time.tzset()
