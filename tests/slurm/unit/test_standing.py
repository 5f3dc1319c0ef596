from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.slurm.job import Service
from pool.slurm.judge import Stage
from pool.slurm.roles import assign
from pool.slurm.standing import Standing

HOSTS = ("n1", "n2", "n3")


def standing_of(
    services: Sequence[Service] = (), least: int = 3, news: list[None] | None = None
) -> Standing:
    told: list[None] = [] if news is None else news
    return Standing(assign(HOSTS), services, least, lambda: told.append(None))


def service(where: str | int = "all") -> Service:
    return Service(name="web", command=("serve",), where=where)


def joined(*ranks: int, least: int = 3) -> Standing:
    """The head's Ray listens for the first time, and these have joined it."""
    standing = standing_of(least=least)
    standing.place_head("10.0.0.1", 0.0)
    standing.report(0, Stage.STARTING, 1.0)
    standing.listen()
    for rank in ranks:
        standing.report(rank, Stage.JOINED, 2.0, turn=1)
    return standing


def stages(standing: Standing) -> list[Stage]:
    return [node.stage for node in standing.nodes]


def test_at_first_nobody_is_there_and_each_service_is_awaited_where_it_runs() -> None:
    standing = standing_of([service(where=2)])
    seen = standing.seen(7.0)
    assert [(node.rank, node.host) for node in seen.nodes] == [(0, "n1"), (1, "n2"), (2, "n3")]
    assert stages(standing) == [Stage.ABSENT] * 3
    assert seen.services[0].states == {1: "starting", 2: "starting"}
    assert (seen.elapsed_s, seen.quorate_s, seen.head_listens) == (7.0, None, False)


def test_who_calls_is_known_by_its_address() -> None:
    standing = standing_of()
    standing.place_head("10.0.0.1", 0.0)
    assert not standing.admit(1, "n2", "10.0.0.2", 1.0)
    assert stages(standing) == [Stage.SEEN, Stage.CALLED, Stage.ABSENT]
    addresses = [node["address"] for node in standing.status()["nodes"]]
    assert addresses == ["10.0.0.1", "10.0.0.2", None]


@pytest.mark.parametrize("rank", [None, "1", -1, 0, 3])
def test_who_has_no_rank_of_another_node_is_refused(rank: object) -> None:
    standing = standing_of()
    assert standing.admit(rank, "n1", "10.0.0.9", 1.0) == f"there is no rank {rank!r}"
    assert stages(standing) == [Stage.ABSENT] * 3


def test_who_is_another_or_has_called_is_refused() -> None:
    standing = standing_of()
    assert standing.admit(1, "n3", "10.0.0.9", 1.0) == "rank 1 is n2, no call yet"
    assert not standing.admit(1, "n2", "10.0.0.2", 1.0)
    assert "rank 1 is n2, has called" in standing.admit(1, "n2", "10.0.0.9", 2.0)
    assert standing.status()["nodes"][1]["address"] == "10.0.0.2"


@given(st.lists(st.tuples(st.integers(1, 2), st.sampled_from(Stage), st.booleans()), max_size=9))
def test_who_is_lost_stays_lost_for_its_first_reason(
    words: list[tuple[int, Stage, bool]],
) -> None:
    standing = joined(0, 1, 2)
    assert standing.lose(1, "it fell", 3.0) == "it fell"
    assert standing.lose(1, "the line was closed", 4.0) == "it fell"
    for rank, stage, is_of_the_head in words:
        if is_of_the_head and stage is not Stage.LOST:
            standing.report(0, stage, 5.0)
        else:
            standing.report(rank, stage, 5.0, detail="news", turn=standing.turn)
    assert standing.nodes[1].stage is Stage.LOST
    assert standing.nodes[1].detail == "it fell"


def test_a_quorum_is_as_old_as_its_last_beginning() -> None:
    standing = joined(0, 1, least=2)
    assert standing.seen(10.0).quorate_s == 8.0
    standing.report(2, Stage.JOINED, 5.0, turn=1)
    assert standing.seen(10.0).quorate_s == 8.0, "one more does not begin it anew"
    standing.lose(1, "gone", 6.0)
    assert standing.seen(10.0).quorate_s == 8.0, "one that can be spared does not end it"
    standing.lose(2, "gone", 7.0)
    assert standing.seen(10.0).quorate_s is None
    again = joined(0, least=2)
    again.report(1, Stage.JOINED, 9.0, turn=1)
    assert again.seen(10.0).quorate_s == 1.0


def test_a_new_ray_of_the_head_is_waited_for_by_all_who_had_joined_the_old() -> None:
    standing = joined(0, 1)
    standing.admit(2, "n3", "10.0.0.3", 3.0)
    assert standing.seen(3.0).head_listens
    standing.report(0, Stage.STARTING, 4.0, detail="try 2 of 3")
    assert stages(standing) == [Stage.STARTING, Stage.SEEN, Stage.CALLED]
    assert not standing.seen(4.0).head_listens
    assert standing.turn == 2
    standing.report(1, Stage.STARTING, 5.0, turn=2)
    standing.report(0, Stage.STARTING, 6.0)
    assert stages(standing) == [Stage.STARTING, Stage.SEEN, Stage.CALLED]


def test_what_is_said_of_an_old_ray_does_not_count_but_a_loss_does() -> None:
    standing = joined(0, 1)
    standing.report(0, Stage.STARTING, 4.0)
    assert not standing.report(1, Stage.JOINED, 5.0, turn=1)
    assert stages(standing)[1] is Stage.SEEN
    assert standing.report(1, Stage.JOINED, 6.0, turn=2)
    assert stages(standing)[1] is Stage.JOINED
    assert standing.report(1, Stage.LOST, 7.0, detail="no more tries", turn=1)
    assert stages(standing)[1] is Stage.LOST


def test_a_service_is_only_where_it_is_to_run() -> None:
    standing = standing_of([service(where=1)])
    standing.report_service(1, "web", "starting", detail="no answer yet")
    assert standing.services[0].details == {1: "no answer yet"}
    standing.report_service(1, "web", "ready")
    standing.report_service(2, "web", "failed", detail="it is none of ours")
    standing.report_service(1, "other", "failed")
    assert standing.services[0].states == {1: "ready"}
    assert standing.services[0].is_ready


def test_a_service_fails_with_its_node_also_when_that_was_lost_before() -> None:
    standing = standing_of([service()])
    standing.lose(2, "it fell", 1.0)
    assert standing.services[0].states == {0: "starting", 1: "starting", 2: "failed"}
    standing.report_service(2, "web", "ready")  # its last word, late
    standing.lose(2, "the line was closed", 2.0)
    assert standing.services[0].states[2] == "failed"
    assert standing.services[0].details[2] == "the line was closed"


def test_the_last_lines_are_kept_of_ray_and_of_each_service() -> None:
    standing = standing_of([service()])
    assert standing.tail(1) == ""
    standing.report(1, Stage.LOST, 1.0, tail="of Ray")
    standing.report_service(1, "web", "failed", tail="of web")
    standing.report_service(1, "web", "failed")
    assert (standing.tail(1), standing.tail(1, "web"), standing.tail(2)) == ("of Ray", "of web", "")


def test_what_was_seen_does_not_change_afterwards() -> None:
    standing = standing_of([service()])
    seen = standing.seen(0.0)
    standing.report_service(1, "web", "ready", detail="it is up")
    standing.lose(2, "it fell", 1.0)
    assert [node.stage for node in seen.nodes] == [Stage.ABSENT] * 3
    assert seen.services[0].states == dict.fromkeys(range(3), "starting")
    assert not seen.services[0].details


def test_whoever_waits_is_told_of_a_change_and_of_nothing_else() -> None:
    news: list[None] = []
    standing = standing_of([service()], news=news)
    standing.admit(9, "n9", "10.0.0.9", 1.0)
    assert not standing.report(1, Stage.JOINED, 2.0, turn=7)
    assert not news
    standing.lose(1, "it fell", 3.0)
    assert len(news) == 1
    standing.move(1, Stage.JOINED, 4.0)
    assert len(news) == 1
    standing.listen()
    standing.report_service(0, "web", "ready")
    standing.place_head("10.0.0.1", 5.0)
    assert len(news) == 4


def test_what_is_published_names_stages_and_leaves_out_what_nobody_said() -> None:
    standing = standing_of([service()], least=2)
    standing.lose(2, "it fell", 1.0)
    standing.report_service(1, "web", "ready", detail="")
    status = standing.status()
    assert status["min_nodes"] == 2
    assert status["nodes"][2] == {
        "rank": 2, "host": "n3", "address": None, "state": "lost", "detail": "it fell",
    }  # fmt: skip
    assert status["services"] == [
        {
            "name": "web",
            "needed": 3,
            "states": {"0": "starting", "1": "ready", "2": "failed"},
            "details": {"2": "it fell"},
        }
    ]
    assert standing.name(2) == "node n3 (rank 2)"
