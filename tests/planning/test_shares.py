"""Colocation shares: what workers on the same devices ask for, or why they cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError, InfeasibleError
from pool.planning.resources import Resources, gib
from pool.planning.shares import (
    ColocationShares,
    MainAndSides,
    Peers,
    plan_main_and_side,
    plan_peers,
)

ONE = Resources.of(devices=1, cpus=8, memory_bytes=gib(8))
TWO = Resources.of(devices=2, cpus=8)


def ray_takes(device_amount: float) -> bool:
    """What Ray refuses of a device: more than one, unless it is whole."""
    return device_amount <= 1 or device_amount.is_integer()


def check(shares: ColocationShares, bundle: Resources) -> None:
    """INV-8, and INV-12: the shares and what is spare are the bundle, exactly."""
    assert sum(shares.shares, Resources()) + shares.spare == bundle
    assert shares.shares[0]
    assert all(ray_takes(share.get("GPU", 0)) for share in shares.shares)
    assert shares.reason


# --- peers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "bundle", "each"),
    [
        (1, ONE, ONE),
        (2, ONE, Resources.of(devices=0.5, cpus=4, memory_bytes=gib(4))),
        (3, Resources.of(devices=1, cpus=1), Resources.of(devices=0.3333, cpus=0.3333)),
        (2, TWO, Resources.of(devices=1, cpus=4)),
        (4, TWO, Resources.of(devices=0.5, cpus=2)),
        (2, Resources.of(devices=0.5), Resources.of(devices=0.25)),
        (4, Resources.of(cpus=2), Resources.of(cpus=0.5)),
        (10_000, Resources.of(devices=1), Resources.of(devices=0.0001)),
    ],
)
def test_peers_share_equally(n: int, bundle: Resources, each: Resources) -> None:
    shares = plan_peers(n, bundle)
    assert shares.shares == (each,) * n
    check(shares, bundle)


@pytest.mark.parametrize(
    ("n", "bundle", "why", "nearest"),
    [
        (10_001, Resources.of(devices=1), "granularity", "10000 peers"),
        (20_002, Resources.of(devices=2), "granularity", "20000 peers"),
        (3, TWO, "same number of peers on each device", "2 peers"),
        (3, Resources.of(devices=4), "same number of peers on each device", "2 peers"),
        (2, Resources.of(devices=1.5), "whole devices only", None),
        (20_000, Resources.of(cpus=1), "granularity", None),
    ],
)
def test_peers_that_cannot_share_are_refused_with_how_many_could(
    n: int, bundle: Resources, why: str, nearest: str | None
) -> None:
    with pytest.raises(InfeasibleError, match=why) as caught:
        plan_peers(n, bundle)
    assert caught.value.nearest == nearest


@given(st.integers(1, 24), st.integers(0, 8), st.integers(0, 9), st.integers(0, 999))
def test_equal_shares_never_exceed_the_bundle_and_every_device_is_divided_evenly(
    n: int, devices: int, cpus: int, memory: int
) -> None:
    bundle = Resources.of(devices=devices, cpus=cpus, memory_bytes=memory)
    try:
        shares = plan_peers(n, bundle)
    except InfeasibleError:
        assert (devices % n and n % devices) if devices else not cpus and memory < n
        return
    check(shares, bundle)
    share = shares.shares[0].units("GPU")
    if 0 < share < 10_000:
        # As many on each device as there are peers for it, whichever device Ray picks first.
        assert 10_000 // share * devices >= n


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_the_number_of_peers_is_a_whole_number(n: int) -> None:
    with pytest.raises(ConfigError):
        plan_peers(n, ONE)


# --- a main worker and side workers ---------------------------------------------------------------


def test_the_main_worker_has_what_the_side_workers_leave() -> None:
    shares = plan_main_and_side(4, ONE, side_cpus=1, side_memory_bytes=gib(1))
    side = Resources.of(devices=0.01, cpus=1, memory_bytes=gib(1))
    main = Resources.of(devices=0.96, cpus=4, memory_bytes=gib(4))
    assert shares.shares == (main, side, side, side, side)
    assert not shares.spare
    check(shares, ONE)


def test_ten_side_workers_of_a_hundredth_fit_beside_nine_tenths_and_the_eleventh_does_not() -> None:
    shares = plan_main_and_side(10, ONE, main_share=0.9, side_share=0.01)
    check(shares, ONE)
    with pytest.raises(InfeasibleError, match=r"ask for 1\.01 GPU of 1 GPU") as caught:
        plan_main_and_side(11, ONE, main_share=0.9, side_share=0.01)
    assert caught.value.nearest == "10 side workers"


def test_what_nobody_asks_for_is_spare() -> None:
    shares = plan_main_and_side(1, ONE, main_share=0.5)
    assert shares.spare == Resources.of(devices=0.49)
    assert shares.shares[0] == Resources.of(devices=0.5, cpus=8, memory_bytes=gib(8))


@pytest.mark.parametrize(
    ("k", "bundle", "main", "side", "shares"),
    [
        (0, TWO, None, None, [2]),
        (1, TWO, None, 1, [1, 1]),
        (2, Resources.of(devices=4), 2, 1, [2, 1, 1]),
        (2, Resources.of(devices=4), None, 0, [4, 0, 0]),
        (2, Resources.of(cpus=4), None, None, [0, 0, 0]),
    ],
)
def test_above_one_device_shares_are_whole(
    k: int, bundle: Resources, main: float | None, side: float | None, shares: list[float]
) -> None:
    planned = plan_main_and_side(k, bundle, main_share=main, side_share=side)
    assert [share.get("GPU", 0) for share in planned.shares] == shares


@pytest.mark.parametrize(
    ("k", "bundle", "values", "why", "nearest"),
    [
        (1, TWO, {}, "whole devices only", "0 side workers"),
        (0, TWO, {"main_share": 1.8}, "whole devices only", None),
        (1, ONE, {"main_share": 1, "side_share": 0.01}, "ask for 1.01 GPU", "0 side workers"),
        (0, ONE, {"main_share": 2}, "a main worker with 2 GPU ask for", None),
        (100, ONE, {}, "leave nothing of 1 GPU to the main", "99 side workers"),
        (101, ONE, {}, "ask for 1.01 GPU", "99 side workers"),
        (1, ONE, {"main_share": 0, "side_share": 0}, "leave nothing of 1 GPU", None),
        (3, ONE, {"side_cpus": 3}, "short of 1 CPU", "2 side workers"),
        (
            1,
            Resources.of(cpus=1),
            {"side_share": 0.5},
            "ask for 0.5 GPU of 0 GPU",
            "0 side workers",
        ),
        (1, Resources.of(cpus=1), {"side_cpus": 1}, "leave nothing of 1 CPU", "0 side workers"),
        (0, Resources(), {}, "leave nothing of nothing", None),
    ],
)
def test_what_cannot_fit_is_refused_before_anything_exists(
    k: int, bundle: Resources, values: dict[str, float], why: str, nearest: str | None
) -> None:
    with pytest.raises(InfeasibleError, match=why) as caught:
        plan_main_and_side(k, bundle, **values)  # type: ignore[arg-type]
    assert caught.value.nearest == nearest


@pytest.mark.parametrize(
    "values",
    [
        {"k": -1},
        {"k": 1, "side_share": 0.00001},
        {"k": 1, "main_share": 0.00001},
        {"k": 1, "side_share": -1},
        {"k": 1, "main_share": float("nan")},
        {"k": 1, "side_memory_bytes": 0.5},
    ],
)
def test_values_that_cannot_be_right_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        plan_main_and_side(bundle=ONE, **values)  # type: ignore[arg-type]


@given(
    st.integers(0, 30),
    st.integers(0, 4),
    st.sampled_from([None, 0.01, 0.1, 0.5, 1, 2]),
    st.sampled_from([None, 0.1, 0.9, 1, 1.8, 3]),
    st.sampled_from([0, 0.5, 1]),
)
def test_main_and_side_shares_never_exceed_the_bundle(
    k: int, devices: int, side: float | None, main: float | None, side_cpus: float
) -> None:
    bundle = Resources.of(devices=devices, cpus=8)

    def plan(k: int) -> ColocationShares:
        return plan_main_and_side(k, bundle, main_share=main, side_share=side, side_cpus=side_cpus)

    nearest: str | None = None
    try:
        planned = plan(k)
    except InfeasibleError as error:
        nearest = error.nearest
    else:
        check(planned, bundle)
        assert len(planned.shares) == k + 1
    if nearest is not None:
        fewer = int(nearest.split()[0])
        assert fewer < k
        check(plan(fewer), bundle)


def test_a_policy_of_shares_divides_as_the_planners_do() -> None:
    bundle = Resources({"GPU": 1, "CPU": 4})
    assert Peers(2).plan(bundle, "GPU") == plan_peers(2, bundle)
    assert Peers(3).lodgers == 2
    sides = MainAndSides(sides=2, main_share=0.5, side_share=0.25, side_cpus=1)
    assert sides.lodgers == 2
    assert sides.plan(bundle, "GPU") == plan_main_and_side(
        2, bundle, main_share=0.5, side_share=0.25, side_cpus=1
    )
    for wrong in (1, 0, 1.5):
        with pytest.raises(ConfigError, match="n is"):
            Peers(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="sides"):
        MainAndSides(sides=0)
