"""The demo's claims: each is true of a good record, and false of one in which it did not happen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from pool.demo.checks import check_all, in_words
from pool.demo.corpus import Count
from pool.demo.record import LeftBehind, Record
from pool.demo.report import document
from pool.demo.story import Standing, Step
from pool.demo.words import WIDTH, report_in_words
from tests.demo.records import CENSUS, good_record


def failed(record: Record) -> set[str]:
    return {check.name for check in check_all(record) if not check.ok}


def step(record: Record, name: str) -> Step:
    return next(step for step in record.steps if step.name == name)


def put(record: Record, name: str, **fields: object) -> None:
    record.steps = [
        replace(step, **fields) if step.name == name else step  # type: ignore[arg-type]
        for step in record.steps
    ]


def lose_a_result(record: Record) -> None:
    record.results -= 1


def miscount(record: Record) -> None:
    record.passes[1]["json"] += Count(lines=1)


def be_idle_in_a_step(record: Record) -> None:
    put(record, "kill", results=0)


def end_before_the_story(record: Record) -> None:
    record.results_by_then = record.results


def restart_a_bystander(record: Record) -> None:
    after = dict(step(record, "kill").after)
    after["demo/2.1"] = Standing("another", after["demo/2.1"].hosts)
    put(record, "kill", after=after)


def restart_a_bystanders_host(record: Record) -> None:
    after = dict(step(record, "notice").after)
    after["demo/2.1"] = Standing(after["demo/2.1"].actor, (("node0", 999),))
    put(record, "notice", after=after)


def drain_too_early(record: Record) -> None:
    put(record, "notice", drained_at=1021.9)


def drain_too_late(record: Record) -> None:
    put(record, "notice", left_at=1081.0)


def drain_by_force(record: Record) -> None:
    put(record, "notice", rung="kill")


def keep_the_victim(record: Record) -> None:
    put(record, "kill", after=step(record, "kill").before)


def take_the_kill_for_something_else(record: Record) -> None:
    put(record, "kill", cause="unhealthy")


def not_grow(record: Record) -> None:
    put(record, "grow", after=step(record, "grow").before)


def leave_an_actor(record: Record) -> None:
    record.left_behind.actors = ["pool:demo:1234:host:1.1 (ALIVE)"]


def leave_a_group(record: Record) -> None:
    record.left_behind.placement_groups = ["pool:demo:1234:replica:1.1 (CREATED)"]


def leave_a_member(record: Record) -> None:
    record.left_behind.processes = ["4711 ray::Reader"]


def leave_a_raylet(record: Record) -> None:
    record.left_behind.after_cluster = ["4711 raylet"]


SPOILED: list[tuple[Callable[[Record], None], str]] = [
    (lose_a_result, "one result for each item"),
    (miscount, "result equals the serial one"),
    (be_idle_in_a_step, "the map went on all the time"),
    (end_before_the_story, "the map went on all the time"),
    (restart_a_bystander, "no other member was touched"),
    (restart_a_bystanders_host, "no other member was touched"),
    (drain_too_early, "the replacement came first"),
    (drain_too_late, "the drain was clean and in time"),
    (drain_by_force, "the drain was clean and in time"),
    (keep_the_victim, "the killed member was replaced"),
    (take_the_kill_for_something_else, "the kill was detected"),
    (not_grow, "the pool grew"),
    (leave_an_actor, "no actor is left"),
    (leave_a_group, "no placement group is left"),
    (leave_a_member, "no member's process is left"),
    (leave_a_raylet, "no process of the cluster is left"),
]


def test_everything_is_true_of_a_good_record() -> None:
    assert not failed(good_record())


@pytest.mark.parametrize(("spoil", "name"), SPOILED, ids=[spoil.__name__ for spoil, _ in SPOILED])
def test_what_did_not_happen_fails_its_own_check(
    spoil: Callable[[Record], None], name: str
) -> None:
    record = good_record()
    spoil(record)
    assert failed(record) == {name}


def test_of_a_demo_that_never_began_nothing_is_true() -> None:
    record = Record(error="no cluster")
    assert failed(record) == {check.name for check in check_all(good_record())}


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_demo_that_ended_early_names_what_it_did_not_come_to(steps: int) -> None:
    record = good_record()
    record.steps = record.steps[:steps]
    record.results_by_then = None
    wanted = {"the replacement came first", "the drain was clean and in time"}
    wanted |= {"no other member was touched", "the map went on all the time"}
    if steps < 2:
        wanted |= {"the kill was detected", "the killed member was replaced"}
    if steps < 1:
        wanted.add("the pool grew")
    assert failed(record) == wanted


def test_a_step_that_was_cut_short_is_no_success() -> None:
    record = good_record()
    record.steps = record.steps[:2]
    put(record, "kill", ready_at=None, detected_at=None, after={})
    assert {"the kill was detected", "the killed member was replaced"} <= failed(record)


def test_the_document_holds_the_verdict_and_survives_json() -> None:
    record = good_record()
    told = json.loads(json.dumps(document(record, check_all(record))))
    assert told["ok"] is True
    assert [step["name"] for step in told["steps"]] == ["grow", "kill", "notice"]
    kill = told["steps"][1]
    assert (kill["detected_s"], kill["ready_s"], kill["left_s"]) == (0.012, 2.25, 0.05)
    assert kill["untouched"] == ["demo/0.1", "demo/2.1"]
    assert told["job"]["packages"]["json"]["lines"] == CENSUS["json"].lines
    leave_an_actor(record)
    assert document(record, check_all(record))["ok"] is False


def test_a_document_of_a_demo_that_never_began_survives_json_too() -> None:
    record = Record(error="no cluster", left_behind=LeftBehind())
    told = json.loads(json.dumps(document(record, check_all(record))))
    assert (told["ok"], told["error"]) == (False, "no cluster")
    assert told["left_behind"]["actors"] is None


def test_the_report_says_costs_and_verdicts_in_lines_that_fit() -> None:
    record = good_record()
    lines = list(report_in_words(record, check_all(record)))
    text = "\n".join(lines)
    assert "All of it happened. It took 60 s" in text
    assert "12 ms" in text
    assert "0.1, 2.1" in text
    assert max(map(len, lines)) <= WIDTH + 20
    miscount(record)
    spoiled = "\n".join(report_in_words(record, check_all(record)))
    assert "FAILED result equals the serial one" in spoiled
    assert "1 of 13 checks failed." in spoiled


def test_the_report_of_a_demo_that_never_began_says_why() -> None:
    record = Record(error="no cluster")
    assert "The demo ended early: no cluster" in list(report_in_words(record, check_all(record)))


def test_time_spans_are_written_with_the_digits_worth_reading() -> None:
    assert [in_words(s) for s in (0.0123, 0.9, 2.345)] == ["12 ms", "900 ms", "2.3 s"]
