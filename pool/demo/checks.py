"""What the demo claims, each claim with a name and checked against what was written down.

Nothing here looks at the world; a record goes in, and verdicts come out. What did not happen is a
check that failed, never one that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pool.demo.corpus import total
from pool.demo.record import Record
from pool.demo.story import DEADLINE_S, GROWN, SIZE, Step


@dataclass(frozen=True, slots=True)
class Check:
    """Say whether a claim is true, and by what that can be seen."""

    name: str
    ok: bool
    detail: str


Verdict = tuple[bool, str]


def check_all(record: Record) -> tuple[Check, ...]:
    """Check every claim."""
    return tuple(Check(name, *verdict(record)) for name, verdict in _CLAIMS)


def _result(record: Record) -> Verdict:
    if not record.serial or not record.passes:
        return False, "there are no results to compare"
    wrong = [n for n, census in enumerate(record.passes, 1) if census != record.serial]
    if wrong:
        return False, f"of {len(record.passes)} passes these differ from the serial one: {wrong}"
    files = total(record.serial).files
    return True, f"{len(record.passes)} passes over {files:,} files, each equal to the serial one"


def _items(record: Record) -> Verdict:
    detail = f"{record.items_sent:,} items sent, {record.results:,} results"
    return 0 < record.items_sent == record.results, detail


def _running(record: Record) -> Verdict:
    if record.results_by_then is None:
        return False, "the pool did not recover from every step"
    later = record.results - record.results_by_then
    meanwhile = [step.results for step in record.steps]
    detail = f"{', '.join(map(str, meanwhile))} results came during the steps, {later} after them"
    return later > 0 and all(meanwhile), detail


def _grew(record: Record) -> Verdict:
    step = _step(record, "grow")
    if step is None or step.ready_at is None:
        return False, f"it did not grow to {GROWN}"
    detail = f"from {len(step.before)} to {len(step.after)} replicas in {_s(step, step.ready_at)}"
    return (len(step.before), len(step.after)) == (SIZE, GROWN), detail


def _detected(record: Record) -> Verdict:
    step = _step(record, "kill")
    if step is None or step.detected_at is None:
        return False, "the death of the node host was not noticed"
    ok = step.cause == "crash"
    return ok, f"known {_s(step, step.detected_at)} after kill -9, as {step.cause}"


def _replaced(record: Record) -> Verdict:
    step = _step(record, "kill")
    if step is None or step.ready_at is None:
        return False, "the killed member's slot was not filled again"
    ok = len(step.after) == len(step.before) and not set(step.victims) & set(step.after)
    return ok, f"{len(step.after)} replicas again after {_s(step, step.ready_at)}"


def _replacement_first(record: Record) -> Verdict:
    step = _step(record, "notice")
    if step is None or step.ready_at is None or step.drained_at is None:
        return False, "the notice was not answered"
    early = step.drained_at - step.ready_at
    ok = early >= 0 and len(step.after) == len(step.before)
    ok = ok and not set(step.victims) & set(step.after)
    first = "before" if early >= 0 else "after"
    return ok, f"the replacement was ready {abs(early) * 1000:.1f} ms {first} the drain began"


def _drained_in_time(record: Record) -> Verdict:
    step = _step(record, "notice")
    if step is None or step.left_at is None:
        return False, "the member with the notice did not leave"
    took = step.left_at - step.at
    ok = took < DEADLINE_S and step.rung == "hook" and not step.troubles
    how = f"gone after {took:.1f} s of {DEADLINE_S:g} s, by way of its {step.rung}"
    return ok, f"{how}; {step.troubles}" if step.troubles else how


def _untouched(record: Record) -> Verdict:
    names = [step.name for step in record.steps]
    touched = [f"{step.name}: {', '.join(step.touched)}" for step in record.steps if step.touched]
    if touched:
        return False, f"other members were touched by {'; '.join(touched)}"
    if names != ["grow", "kill", "notice"]:
        return False, f"only these steps were made: {', '.join(names) or 'none'}"
    kept = sum(len(step.untouched) for step in record.steps)
    detail = f"{kept} of {kept} bystanders kept their actor and their processes"
    return all(step.untouched for step in record.steps), detail


def _no_actor(record: Record) -> Verdict:
    return _nothing(record.left_behind.actors, "no actor")


def _no_group(record: Record) -> Verdict:
    return _nothing(record.left_behind.placement_groups, "no placement group")


def _no_member_process(record: Record) -> Verdict:
    seen = record.left_behind.members_seen
    ok, detail = _nothing(record.left_behind.processes, f"none of {seen} processes")
    return ok and seen > 0, detail


def _no_process(record: Record) -> Verdict:
    seen = record.left_behind.processes_seen
    ok, detail = _nothing(record.left_behind.after_cluster, f"none of {seen} processes")
    return ok and seen > 0, detail


def _nothing(found: Sequence[str] | None, none: str) -> Verdict:
    if found is None:
        return False, "nobody could look"
    return not found, f"left: {', '.join(found)}" if found else f"{none} left"


def _step(record: Record, name: str) -> Step | None:
    return next((step for step in record.steps if step.name == name), None)


def _s(step: Step, at: float) -> str:
    return in_words(at - step.at)


def in_words(seconds: float) -> str:
    """Write a time span with as many digits as are worth reading."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


_CLAIMS: tuple[tuple[str, Callable[[Record], Verdict]], ...] = (
    ("result equals the serial one", _result),
    ("one result for each item", _items),
    ("the map went on all the time", _running),
    ("the pool grew", _grew),
    ("the kill was detected", _detected),
    ("the killed member was replaced", _replaced),
    ("the replacement came first", _replacement_first),
    ("the drain was clean and in time", _drained_in_time),
    ("no other member was touched", _untouched),
    ("no actor is left", _no_actor),
    ("no placement group is left", _no_group),
    ("no member's process is left", _no_member_process),
    ("no process of the cluster is left", _no_process),
)
