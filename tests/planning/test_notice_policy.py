from __future__ import annotations

import math
from typing import Any

import pytest

from pool.errors import ConfigError
from pool.planning.notice import Notice, NoticeKind
from pool.planning.notice_policy import Answer, NoticePolicy


def test_every_kind_has_an_answer_and_what_is_not_named_keeps_its_default() -> None:
    policy = NoticePolicy(answers={NoticeKind.WALLTIME: Answer.DRAIN})
    found = {kind: policy.answer(Notice(kind=kind)) for kind in NoticeKind}
    assert found.pop(NoticeKind.WALLTIME) is Answer.DRAIN
    assert set(found.values()) == {Answer.REPLACE}


def test_words_serve_as_well_and_it_prints_as_it_can_be_read_again() -> None:
    given: Any = {"maintenance": "ignore"}
    policy = NoticePolicy(answers=given)
    assert policy.answer(Notice(kind=NoticeKind.MAINTENANCE)) is Answer.IGNORE
    assert NoticePolicy(answers=policy.answers) == policy


def test_an_answer_begins_before_the_ladder_has_to() -> None:
    """INV-7."""
    policy = NoticePolicy(ahead_s={NoticeKind.MAINTENANCE: 10.0})
    assert policy.begins_s(Notice(kind=NoticeKind.MAINTENANCE), ladder_s=30.0) == 30.0
    assert policy.begins_s(Notice(kind=NoticeKind.WALLTIME), ladder_s=30.0) == 600.0
    assert policy.begins_s(Notice(kind=NoticeKind.PREEMPT), ladder_s=30.0) == math.inf


def test_the_cluster_is_told_of_what_was_named_and_never_of_advice() -> None:
    policy = NoticePolicy(tell_cluster=[NoticeKind.PREEMPT])
    assert policy.passes_on(Notice(kind=NoticeKind.PREEMPT))
    assert not policy.passes_on(Notice(kind=NoticeKind.PREEMPT, advisory=True))
    assert not policy.passes_on(Notice(kind=NoticeKind.MAINTENANCE))
    assert not NoticePolicy().passes_on(Notice(kind=NoticeKind.PREEMPT))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("answers", {"flood": "replace"}),
        ("answers", {"preempt": "panic"}),
        ("answers", 5),
        ("ahead_s", {"preempt": -1}),
        ("ahead_s", {"preempt": math.nan}),
        ("ahead_s", {"preempt": "soon"}),
        ("ahead_s", None),
        ("patience_s", math.inf),
        ("patience_s", -1),
        ("tell_cluster", ["flood"]),
        ("tell_cluster", 5),
        ("domain_label", ""),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        NoticePolicy(**{field: value})
    assert caught.value.field == field
