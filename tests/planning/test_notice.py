from __future__ import annotations

import math

import pytest

from pool.errors import ConfigError
from pool.planning.notice import Notice, NoticeKind


@pytest.mark.parametrize("deadline", [math.nan, math.inf, -math.inf])
def test_a_deadline_that_is_no_time_is_refused(deadline: float) -> None:
    with pytest.raises(ConfigError, match="seconds since the epoch") as caught:
        Notice(kind=NoticeKind.PREEMPT, deadline=deadline)
    assert caught.value.field == "deadline"


def test_a_notice_reads_as_a_sentence() -> None:
    assert str(Notice(kind=NoticeKind.WALLTIME)) == "walltime notice"
    told = Notice(kind=NoticeKind.PREEMPT, source="ray", reason="the node is drained")
    assert str(told) == "preempt notice from ray: the node is drained"
