"""What commands print for people, to the letter; `POOL_GOLDEN=write pytest` writes it anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.canned import Canned
from tests.cli.conftest import Pool

GOLDEN = Path(__file__).with_name("golden")
COMMANDS = {
    "status": ("status",),
    "status-no-hosts": ("status", "rollout", "--no-hosts"),
    "list": ("list",),
    "explain-pool": ("explain", "rollout"),
    "explain-slot": ("explain", "rollout/0"),
    "explain-dead": ("explain", "eval"),
    "events": ("events",),
    "events-of-slot": ("events", "rollout", "--slot", "3", "--kind", "member_fault"),
    "plan-fits": ("plan", "--devices", "4", "--replicas", "3"),
    "plan-not-now": ("plan", "--devices", "8", "--replicas", "2"),
    "plan-never": ("plan", "--devices", "16", "--max-nodes", "1"),
    "plan-two-nodes": ("plan", "--devices", "16", "--memory-gib", "0", "--cpus", "4"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_printed_is_as_it_was_agreed(name: str, run: Pool) -> None:
    result = run(*COMMANDS[name])
    text = f"$ pool {' '.join(COMMANDS[name])}\n{result.output}[exit {result.exit_code}]\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("POOL_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_where_there_is_nothing_it_says_so(run: Pool, canned: Canned) -> None:
    canned.values.clear()
    canned.tables.clear()
    for command in ("status", "list"):
        assert run(command).output == "There are no pools.\n"
    assert run("events").output == ""
