"""The footprint: processes are counted by kind, and those that ended meanwhile are left out."""

from __future__ import annotations

import os

from benchmarks.footprint import MEGA, Memory, driver, kinds_of, look, rows


def memory(mb: int) -> Memory:
    return Memory(uss=mb * MEGA, pss=2 * mb * MEGA, rss=3 * mb * MEGA)


def test_a_kind_is_described_by_its_medians_and_its_sum() -> None:
    seen = {1: memory(1), 2: memory(2), 3: memory(6)}
    [row] = rows((4, 2), "pool", seen, {"hosts": {1, 2, 3, 99}, "nobody": {98}})
    assert (row.replicas, row.hosts, row.side, row.kind, row.count) == (4, 2, "pool", "hosts", 3)
    assert (row.uss_mb, row.pss_mb, row.rss_mb, row.sum_mb) == (2, 4, 6, 18)


def test_this_process_is_seen_and_what_it_grew_by() -> None:
    own = os.getpid()
    assert look()[own].rss >= look()[own].uss > 0
    row = driver((1, 1), "pool", {own: memory(7)}, {own: memory(5)})
    assert (row.uss_mb, row.sum_mb) == (2, 4)


def test_only_who_came_since_is_sorted_and_who_is_known_keeps_its_name() -> None:
    seen = {os.getpid(): memory(1), 2: memory(1)}
    kinds = kinds_of(seen, {os.getpid(): memory(1)}, node_hosts={2})
    assert kinds["node hosts"] == {2}
    assert not any(pids for kind, pids in kinds.items() if kind != "node hosts")
