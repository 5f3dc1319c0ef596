"""The page on faults names every cause that there is, and no other."""

from __future__ import annotations

import re

import pool
from tests.docs.snippets import ROOT

PAGE = ROOT / "docs" / "how-to" / "survive-faults.md"


def test_the_page_has_every_cause_and_no_other() -> None:
    [named] = re.findall(r"The causes are ([^.]*)\.", PAGE.read_text())
    assert re.findall(r"`(\w+)`", named) == [cause.value for cause in pool.Cause]


def test_the_causes_without_a_limit_are_those_that_the_page_says() -> None:
    unlimited = {cause for cause, limit in pool.RestartPolicy().budgets.items() if limit is None}
    nodes = {pool.Cause.PREEMPTION, pool.Cause.NODE_LOST, pool.Cause.MAINTENANCE}
    assert unlimited == {*nodes, pool.Cause.TEMPORARY}
    assert pool.RestartPolicy().budgets[pool.Cause.VERDICT] == 0
