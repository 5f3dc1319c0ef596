"""How commands end: exit codes, JSON, and what asks before it does something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pool.cluster.connect
from pool.cli import app
from pool.cli.exits import Exit
from pool.errors import ConfigError
from tests.cli.canned import Canned
from tests.cli.conftest import Pool


def documents(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("status", "none"), Exit.UNKNOWN, "no pool 'none' is there; there are: 'eval', 'older'"),
        (("explain", "rollout/9"), Exit.UNKNOWN, "no slot 9; there are: 0, 1, 2, 3, 5"),
        (("explain", "none/9"), Exit.UNKNOWN, "no pool 'none' is there"),
        (("events", "--kind", "x"), Exit.USAGE, "'x' is no kind of event; there are pool_opened"),
        (("scale", "rollout"), Exit.USAGE, "Missing argument"),
        (("scale", "rollout", "--", "-1"), Exit.USAGE, "Invalid value"),
        (("scale", "rollout", "1"), Exit.NOT_CONFIRMED, "will be scaled from 4 to 1: the others"),
        (("drain", "rollout"), Exit.NOT_CONFIRMED, "There is no terminal to ask on; give --yes"),
        (("drain", "rollout/1"), Exit.NOT_CONFIRMED, "(rollout/1.1, suspect) will be drained"),
        (("drain", "rollout/1.1"), Exit.NOT_CONFIRMED, "Slot 1 of pool 'rollout'"),
        (("roll", "rollout"), Exit.NOT_CONFIRMED, "its 5 members are replaced"),
        (("roll", "rollout", "--back", "--pause"), Exit.USAGE, "give one of"),
        (("roll", "rollout", "--pause", "--surge", "1"), Exit.USAGE, "a roll that begins"),
        (("scale", "eval", "2"), Exit.NOT_CONFIRMED, "It has no owner: this process owns it until"),
        (("scale", "eval", "2", "--no-wait"), Exit.NO_OWNER, "no owner who could go on with it"),
        (("drain", "eval", "--no-wait", "--yes"), Exit.NO_OWNER, "leave out --no-wait"),
        (("roll", "eval", "--pause", "--no-wait"), Exit.NO_OWNER, "has to stay until it is done"),
        (("scale", "eval", "2", "--timeout", "-1"), Exit.USAGE, "Invalid value"),
        (("scale", "older", "1"), Exit.NO_OWNER, "it shows nothing of itself"),
        (("logs", "eval"), Exit.NO_OWNER, "The files, by node: none is known of"),
        (("plan",), Exit.USAGE, "the replica asks for nothing; give devices, or cpus"),
        (("plan", "--devices", "1", "--label", "x"), Exit.USAGE, "give KEY=VALUE"),
        (("top",), Exit.USAGE, "needs a terminal"),
    ],
)
def test_what_cannot_be_done_says_so_and_ends_with_its_code(
    words: tuple[str, ...], code: Exit, says: str, run: Pool
) -> None:
    result = run(*words)
    text = " ".join(result.output.replace("│", " ").split())
    assert (result.exit_code, says in text) == (code, True), result.output
    assert "Traceback" not in result.output


def test_a_cluster_that_does_not_answer_has_a_code_of_its_own(run: Pool, canned: Canned) -> None:
    canned.is_away = True
    result = run("status")
    assert result.exit_code == Exit.UNREACHABLE
    assert result.output == "pool: Ray's GCS did not answer: RpcError('Deadline Exceeded')\n"


def test_a_cluster_that_is_not_found_has_the_same(
    run: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(address: str | None) -> None:
        raise ConfigError(f"nobody answers at {address}", "address")

    monkeypatch.setattr(pool.cluster.connect, "observe", refuse)
    result = run("list", "--address", "1.2.3.4:6379", "--json")
    assert result.exit_code == Exit.UNREACHABLE
    [document] = documents(result.stdout)
    text = "nobody answers at 1.2.3.4:6379"
    assert document == {
        "version": 1,
        "error": {"code": 3, "kind": "ConfigError", "text": text},
    }
    assert result.stderr == f"pool: {text}\n"


def test_every_command_has_json(run: Pool) -> None:
    for info in app.registered_commands:
        assert info.name is not None
        assert "--json" in run(info.name, "--help").output, info.name


def test_status_is_the_same_in_json(run: Pool) -> None:
    [document] = documents(run("status", "--json").stdout)
    assert document["version"] == 1
    dead, older, rollout = document["pools"]
    assert (dead["status"], dead["owner_gone"], dead["keeper"]) == ("owner gone", True, True)
    assert older["picture"] is None
    slots = rollout["picture"]["snapshot"]["slots"]
    assert [slot["index"] for slot in slots] == [0, 1, 2, 3, 5]
    assert slots[0]["member"]["info"]["hosts"][0]["processes"][0]["ports"] == {"http": 8000}
    assert rollout["age_s"] == pytest.approx(0.4)


def test_events_are_a_document_each(run: Pool) -> None:
    read = documents(run("events", "--json", "-n", "2").stdout)
    assert [(each["number"], each["event"]["kind"]) for each in read] == [
        (3, "member_fault"),
        (4, "restart_planned"),
    ]
    assert read[0]["event"]["facts"] == {"cause": "crash", "reason": "it was killed"}


def test_the_other_commands_speak_json_too(run: Pool) -> None:
    [listed] = documents(run("list", "--json").stdout)
    assert [(each["name"], each["ready"]) for each in listed["pools"]] == [
        ("eval", 1),
        ("older", None),
        ("rollout", 2),
    ]
    [explained] = documents(run("explain", "rollout/3", "--json").stdout)
    assert explained["slot"]["reason"].startswith("its restart is planned")
    assert [each["event"]["kind"] for each in explained["events"]] == [
        "member_fault",
        "restart_planned",
    ]
    [planned] = documents(run("plan", "--devices", "8", "--json").stdout)
    assert (planned["verdict"], planned["assignment"]) == ("fits", {"replica 0": ["node-a"]})


def test_nodes_are_saved_to_a_file_and_planned_for_without_a_cluster(
    run: Pool, canned: Canned, tmp_path: Path
) -> None:
    path = tmp_path / "nodes.json"
    words = ("plan", "--devices", "4", "--replicas", "3")
    live = run(*words, "--save-topology", str(path))
    canned.is_away = True
    offline = run(*words, "--topology", str(path))
    assert (offline.exit_code, offline.output) == (0, live.output)
    path.write_text('{"nodes": [{"node_id": "n", "total": {"GPU": 4, "CPU": 8}}]}')
    assert run("plan", "--devices", "4", "--topology", str(path)).exit_code == 0
    assert run("plan", "--devices", "8", "--topology", str(path)).exit_code == Exit.FAILED


@pytest.mark.parametrize("text", ["", "[]", '{"nodes": [1]}', '{"nodes": [{"total": {}}]}', "{}"])
def test_a_file_that_holds_no_nodes_says_what_it_is_to_hold(
    text: str, run: Pool, tmp_path: Path
) -> None:
    path = tmp_path / "nodes.json"
    path.write_text(text)
    result = run("plan", "--devices", "1", "--topology", str(path))
    assert result.exit_code == Exit.USAGE
    assert '"total": {"GPU": 8, "CPU": 96}' in result.output


def test_help_needs_neither_ray_nor_an_event_loop() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from pool.cli import app\n"
        "assert CliRunner().invoke(app, ['status', '--help']).exit_code == 0\n"
        "slow = {'ray', 'anyio', 'structlog', 'pool.control.window'} & sys.modules.keys()\n"
        "assert not slow, slow\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_shell_completes_commands(run: Pool) -> None:
    program = "from pool.cli import main; main()"
    variables = {"_POOL_COMPLETE": "complete_bash", "COMP_WORDS": "pool st", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, os; os.environ.update({variables}); "
         f"sys.argv = ['pool']; {program}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["status"]
