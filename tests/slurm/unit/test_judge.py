from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pool.slurm.deadlines import WHAT, Deadlines
from pool.slurm.judge import Kind, NodeView, Seen, ServiceView, Stage, judge, judge_losses

DEADLINES = Deadlines()
STATES = st.sampled_from(["starting", "ready", "failed"])


@st.composite
def situations(draw: st.DrawFn) -> tuple[Seen, int]:
    # Weighted, so that it also occurs that all is well.
    stage = st.one_of(st.just(Stage.JOINED), st.just(Stage.JOINED), st.sampled_from(Stage))
    count = draw(st.integers(1, 6))
    nodes = [
        NodeView(rank=rank, host=f"n{rank}", stage=draw(stage), detail=draw(st.just("why")))
        for rank in range(count)
    ]
    services = [
        ServiceView(
            name=f"s{number}",
            quorum=draw(st.one_of(st.sampled_from(["all", "50%"]), st.just(1))),
            states={rank: draw(STATES) for rank in range(draw(st.integers(1, count)))},
            details={},
        )
        for number in range(draw(st.integers(0, 2)))
    ]
    joined = sum(node.stage is Stage.JOINED for node in nodes)
    least = draw(st.integers(1, count))
    seen = Seen(
        nodes=nodes,
        services=services,
        head_listens=draw(st.booleans()),
        elapsed_s=draw(st.floats(0, 3000)),
        quorate_s=draw(st.floats(0, 100)) if joined >= least else None,
    )
    return seen, least


@given(situations())
def test_the_driver_never_starts_without_enough_nodes_and_services(
    situation: tuple[Seen, int],
) -> None:
    seen, least = situation
    if judge(seen, DEADLINES, least).kind is Kind.GO:
        assert sum(node.stage is Stage.JOINED for node in seen.nodes) >= least
        assert all(service.is_ready for service in seen.services)
        assert seen.nodes[0].stage is Stage.JOINED


@given(situations())
def test_no_wait_is_longer_than_the_last_deadline(situation: tuple[Seen, int]) -> None:
    seen, least = situation
    last = max(limit for _, limit in DEADLINES.rows()) + DEADLINES.late_s
    late = replace(seen, elapsed_s=last)
    if late.quorate_s is not None:
        late = replace(late, quorate_s=DEADLINES.late_s)
    assert judge(late, DEADLINES, least).kind is not Kind.WAIT


@given(situations())
def test_every_verdict_says_why(situation: tuple[Seen, int]) -> None:
    seen, least = situation
    verdict = judge(seen, DEADLINES, least)
    assert verdict.why
    if verdict.rank is not None:
        assert verdict.kind is Kind.FAIL
        assert verdict.rank in {node.rank for node in seen.nodes}


@given(situations())
def test_a_loss_that_is_too_much_is_seen_whatever_else_is(situation: tuple[Seen, int]) -> None:
    seen, least = situation
    loss = judge_losses(seen, least)
    if loss is not None:
        assert judge(seen, DEADLINES, least) == loss
    alive = sum(node.stage is not Stage.LOST for node in seen.nodes)
    if alive < least:
        assert loss is not None
        assert loss.rank is not None


@given(st.permutations([10.0, 20.0, 30.0, 40.0, 50.0]))
def test_the_shortest_deadline_is_first(limits: list[float]) -> None:
    deadlines = Deadlines(**dict(zip(WHAT, limits, strict=True)))
    rows = [limit for _, limit in deadlines.rows()]
    assert rows == sorted(limits)


def seen_of(*stages: Stage, elapsed_s: float = 0.0, quorate_s: float | None = None) -> Seen:
    return Seen(
        nodes=[NodeView(rank=n, host=f"n{n + 1}", stage=stage) for n, stage in enumerate(stages)],
        services=[],
        head_listens=True,
        elapsed_s=elapsed_s,
        quorate_s=quorate_s,
    )


def test_who_is_missing_is_named() -> None:
    seen = seen_of(Stage.JOINED, Stage.ABSENT, Stage.STARTING, Stage.STARTING)
    verdict = judge(seen, DEADLINES, 4)
    assert verdict.kind is Kind.WAIT
    assert verdict.why == "1 of 4 nodes have joined; n2: no call yet; n3, n4: starting Ray"


def test_a_node_that_does_not_see_the_directory_is_to_blame_before_one_that_has_not_called() -> (
    None
):
    seen = seen_of(Stage.JOINED, Stage.CALLED, Stage.ABSENT, elapsed_s=61)
    verdict = judge(seen, DEADLINES, 3)
    assert (verdict.kind, verdict.rank) == (Kind.FAIL, 1)
    assert "n2" in verdict.why
    assert "directory" in verdict.why
    assert judge(seen_of(Stage.JOINED, Stage.ABSENT, elapsed_s=61), DEADLINES, 2).kind is Kind.WAIT


def test_all_are_waited_for_a_while_when_enough_have_joined() -> None:
    seen = seen_of(Stage.JOINED, Stage.JOINED, Stage.STARTING, quorate_s=59)
    assert judge(seen, DEADLINES, 2).kind is Kind.WAIT
    assert judge(replace(seen, quorate_s=60), DEADLINES, 2).kind is Kind.GO
    lost = seen_of(Stage.JOINED, Stage.JOINED, Stage.LOST, quorate_s=0)
    assert judge(lost, DEADLINES, 2).kind is Kind.GO


def test_the_head_cannot_be_spared() -> None:
    verdict = judge_losses(seen_of(Stage.LOST, Stage.JOINED, Stage.JOINED), 1)
    assert verdict is not None
    assert verdict.rank == 0


def test_a_service_that_cannot_reach_its_quorum_is_named_with_its_node() -> None:
    service = ServiceView(
        name="web", quorum=2, states={0: "ready", 1: "failed", 2: "failed"}, details={2: "no port"}
    )
    seen = replace(seen_of(*[Stage.JOINED] * 3), services=[service])
    verdict = judge(seen, DEADLINES, 3)
    assert (verdict.kind, verdict.rank, verdict.service) == (Kind.FAIL, 2, "web")
    assert verdict.why == "service web failed on node n3 (rank 2): no port"
    service.states[1] = "starting"
    assert judge(seen, DEADLINES, 3).kind is Kind.WAIT
