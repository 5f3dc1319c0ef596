"""Hypothesis strategies for the supervision planners.

Rare states are weighted so that they occur: failures pile up at the same instant, streaks are long,
deadlines have passed. Ids (slots) are drawn from a small range, so that they collide.
"""

from __future__ import annotations

from hypothesis import strategies as st

from pool.planning.demand import Demand
from pool.planning.drain import DrainPolicy, Leaving
from pool.planning.elastic import ElasticPolicy
from pool.planning.health import HealthPolicy, HealthRecord, Probe, ProbeKind
from pool.planning.restart import Cause, Failure, RestartPolicy
from pool.planning.rolling import RollPolicy
from pool.planning.sizes import Candidate

SLOTS = st.integers(0, 5)


def seconds(most: float = 1e4) -> st.SearchStrategy[float]:
    """Draw a number of seconds, 0 and whole numbers more often than by chance."""
    some = st.floats(0, most, allow_nan=False, allow_subnormal=False)
    return st.one_of(st.just(0.0), st.integers(0, int(most)).map(float), some)


def times() -> st.SearchStrategy[float]:
    """Draw times on a quarter-second grid, near to each other or far apart."""
    quarters = st.one_of(st.integers(0, 8), st.integers(0, 8_000))
    return quarters.map(lambda number: number / 4)


# --- health ---------------------------------------------------------------------------------------

PROBES = st.builds(Probe, st.sampled_from(ProbeKind), st.sampled_from(["", "queue is stuck"]))
HEALTH_POLICIES = st.builds(
    HealthPolicy,
    failures=st.integers(1, 4),
    grace_s=st.sampled_from([0.0, 10.0, 30.0]),
)
HEALTH_RECORDS = st.builds(
    HealthRecord,
    consecutive_failures=st.integers(0, 4),
    last_ok=st.none() | times(),
    last_detail=st.sampled_from(["", "it was slow"]),
)

# --- restart --------------------------------------------------------------------------------------

RETRIED: list[Cause] = [cause for cause in Cause if cause != Cause.VERDICT]
BUDGETS = st.dictionaries(
    st.sampled_from(RETRIED),
    st.none() | st.integers(0, 3),
    max_size=3,
)


@st.composite
def restart_policies(draw: st.DrawFn) -> RestartPolicy:
    """Draw policies with windows short enough for failures to leave them."""
    delay_s = draw(st.sampled_from([0.0, 0.25, 0.5, 4.0]))
    return RestartPolicy(
        intensity=draw(st.integers(0, 5)),
        period_s=draw(st.sampled_from([10.0, 60.0, 600.0])),
        delay_s=delay_s,
        delay_max_s=delay_s + draw(st.sampled_from([0.0, 3.0, 60.0])),
        delay_factor=draw(st.sampled_from([1.0, 1.01, 2.0, 10.0])),
        jitter=draw(st.sampled_from([0.0, 0.1, 1.0])),
        reset_after_s=draw(st.sampled_from([0.0, 20.0, 120.0])),
        budgets=draw(BUDGETS),
    )


@st.composite
def failure_records(draw: st.DrawFn, max_size: int = 60) -> tuple[Failure, ...]:
    """Draw the failures of a pool, oldest first, in bursts: many gaps are nought."""
    at = draw(times())
    failures: list[Failure] = []
    gaps = st.one_of(st.just(0.0), st.just(0.25), st.sampled_from([5.0, 10.0, 60.0, 600.0]))
    # Few verdicts: one ends every story it occurs in.
    causes = st.sampled_from([*RETRIED * 3, *Cause])
    for _ in range(draw(st.integers(0, max_size))):
        at += draw(gaps)
        failure = Failure(
            at,
            draw(causes),
            draw(st.sampled_from(["", "exit code 137"])),
            slot=draw(SLOTS),
            ran_s=draw(st.sampled_from([0.0, 0.0, 5.0, 20.0, 300.0])),
            delay_s=draw(st.sampled_from([None, None, None, 0.0, 7.5])),
        )
        failures.append(failure)
    return tuple(failures)


# --- sizes ----------------------------------------------------------------------------------------


@st.composite
def candidate_lists(draw: st.DrawFn) -> list[Candidate]:
    """Draw slots in any order, each once; all four classes are about equally likely."""
    slots = draw(st.lists(st.integers(0, 40), unique=True, max_size=12))
    return [
        Candidate(
            slot,
            ready=draw(st.booleans()),
            healthy=draw(st.booleans()),
            leaving=draw(st.booleans()),
            in_flight=draw(st.integers(0, 3)),
        )
        for slot in slots
    ]


# --- drain ----------------------------------------------------------------------------------------


@st.composite
def drain_policies(draw: st.DrawFn) -> DrainPolicy:
    """Draw policies with shares that leave something, some rungs without a share."""
    parts = draw(st.tuples(*[st.integers(0, 6)] * 3))
    whole = sum(parts) + draw(st.integers(1, 6))
    work, hook, term = (part / whole for part in parts)
    return DrainPolicy(
        timeout_s=draw(seconds(600)), work_share=work, hook_share=hook, term_share=term
    )


BUDGETS_S = st.one_of(
    st.floats(-10, 3, allow_nan=False, allow_subnormal=False),
    seconds(1e3),
    st.just(float("inf")),
)

LEAVING = st.builds(
    Leaving,
    slot=SLOTS,
    deadline=st.none() | st.just(float("inf")) | times(),
    ladder_s=seconds(60),
    why=st.sampled_from(["", "spot instance action"]),
)

# --- domains --------------------------------------------------------------------------------------

NODES = [f"n{number}" for number in range(8)]
NOTICES = st.dictionaries(
    st.sampled_from(NODES), st.none() | st.just(float("inf")) | times(), max_size=4
)
MEMBERSHIPS = st.dictionaries(
    SLOTS, st.lists(st.sampled_from(NODES), max_size=4, unique=True), max_size=6
)
DOMAINS = st.dictionaries(st.sampled_from(NODES), st.sampled_from(["slice-0", "slice-1"]))

# --- elastic --------------------------------------------------------------------------------------


@st.composite
def elastic_policies(draw: st.DrawFn) -> ElasticPolicy:
    """Draw policies with small bounds, so that they are reached."""
    min_size = draw(st.integers(0, 4))
    return ElasticPolicy(
        min_size=min_size,
        max_size=min_size + draw(st.integers(0, 10)),
        target=draw(st.sampled_from([0.1, 1.0, 4.0])),
        slack=draw(st.sampled_from([0.0, 0.1, 0.5])),
        up_votes=draw(st.integers(1, 3)),
        down_votes=draw(st.integers(1, 4)),
        up_cooldown_s=draw(st.sampled_from([0.0, 20.0])),
        cooldown_s=draw(st.sampled_from([0.0, 60.0])),
    )


TOTALS = st.one_of(
    st.none(),
    st.sampled_from([0.0, 0.3, 1.0, 4.0, 1e300, float("nan"), float("inf"), -1.0]),
    st.floats(0, 60, allow_nan=False, allow_subnormal=False),
)

# --- rolling --------------------------------------------------------------------------------------


@st.composite
def roll_policies(draw: st.DrawFn) -> RollPolicy:
    """Draw policies that can move: one of the two bounds is above 0."""
    surge = draw(st.integers(0, 3))
    return RollPolicy(surge=surge, max_unavailable=draw(st.integers(0 if surge else 1, 3)))


# --- demand ---------------------------------------------------------------------------------------

BUNDLES = st.dictionaries(st.sampled_from(["CPU", "GPU"]), st.sampled_from([0, 1, 2.5, 8]))
DEMANDS = st.builds(
    Demand,
    pool=st.sampled_from(["rollout", "trainer", "reward"]),
    bundles=st.lists(BUNDLES, max_size=4).map(tuple),
    expires_at=st.just(float("inf")) | times(),
    labels=st.dictionaries(st.just("zone"), st.sampled_from(["a", "b"])),
)
