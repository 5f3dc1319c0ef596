"""Resources: exact sums, refusals, and text."""

from __future__ import annotations

import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.resources import Resources, amount_text, as_name, as_whole, gib, to_units
from tests.planning.strategies_placement import resources

# --- safety ---------------------------------------------------------------------------------------


@given(st.lists(resources, max_size=6))
def test_sums_are_exact_whatever_their_order(parts: list[Resources]) -> None:
    forward = sum(parts, Resources())
    backward = sum(reversed(parts), Resources())
    assert forward == backward
    for name in forward:
        assert forward.units(name) == sum(part.units(name) for part in parts)


def test_ten_tenths_are_one() -> None:
    assert sum([Resources({"CPU": 0.1})] * 10, Resources()) == Resources({"CPU": 1})


@given(resources, resources)
def test_taking_away_what_was_added_gives_back_the_same(a: Resources, b: Resources) -> None:
    assert (a + b) - b == a
    assert a.fits_in(a + b)


@given(resources, resources)
def test_a_difference_is_refused_exactly_if_it_would_be_negative(
    a: Resources, b: Resources
) -> None:
    if b.fits_in(a):
        assert (a - b) + b == a
        assert not b.shortfall(a)
    else:
        with pytest.raises(ConfigError, match="short of"):
            _ = a - b
        assert b.fits_in(a + b.shortfall(a))
    assert all(amount > 0 for amount in a.minus_clamped(b).values())


@given(resources)
def test_equal_resources_hash_alike_and_survive_pickling_and_their_own_repr(a: Resources) -> None:
    again = pickle.loads(pickle.dumps(a))
    assert again == a
    assert hash(again) == hash(a)
    assert a == dict(a)
    assert Resources(a) == a
    assert list(a) == list(dict(a))
    assert len(a) == len(dict(a))


@given(resources, st.integers(0, 50))
def test_scaling_by_a_whole_number_is_repeated_addition(a: Resources, k: int) -> None:
    assert a.scaled(k) == sum([a] * k, Resources())


def test_scaling_by_a_fraction_rounds_to_the_granularity() -> None:
    assert Resources({"CPU": 1}).scaled(Fraction(1, 3)) == Resources({"CPU": 0.3333})


def test_zeros_and_what_rounds_to_zero_are_dropped() -> None:
    assert Resources({"CPU": 0, "GPU": 0.00004, "x": 0.0001}) == Resources({"x": 0.0001})


@pytest.mark.parametrize("bad", [-1, -0.5, float("nan"), float("inf"), True, "4", None, 1j])
def test_what_is_no_amount_is_refused_by_name(bad: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Resources({"GPU": bad})  # type: ignore[dict-item]
    assert caught.value.field == "GPU"


@pytest.mark.parametrize("bad", ["", 3, None])
def test_what_is_no_name_is_refused(bad: object) -> None:
    with pytest.raises(ConfigError):
        Resources({bad: 1})  # type: ignore[dict-item]
    with pytest.raises(ConfigError):
        as_name(bad, "device")


@pytest.mark.parametrize("bad", [1.5, 2.0, "4", True, -1])
def test_what_is_no_whole_number_is_refused(bad: object) -> None:
    with pytest.raises(ConfigError):
        as_whole(bad, "devices")


def test_resources_cannot_be_changed() -> None:
    held = Resources({"CPU": 1})
    with pytest.raises(AttributeError):
        held._units = {}
    with pytest.raises(AttributeError):
        del held._units


def test_a_resource_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="given twice"):
        Resources.of(devices=1, GPU=2)
    with pytest.raises(ConfigError, match="given twice"):
        Resources.of(devices=1, device="CPU")


def test_bytes_are_whole() -> None:
    with pytest.raises(ConfigError):
        Resources.of(memory_bytes=1.5)  # type: ignore[arg-type]
    assert gib(0.5) == 512 * 1024**2
    assert to_units(2**60 + 1, "memory") == (2**60 + 1) * 10_000


# --- as a mapping, and as text --------------------------------------------------------------------


def test_it_reads_as_a_mapping_of_rays_names() -> None:
    held = Resources.of(cpus=4, devices=8, device="TPU", memory_bytes=gib(2), disk=0.5)
    assert dict(held) == {"CPU": 4.0, "TPU": 8.0, "memory": 2 * 1024.0**3, "disk": 0.5}
    assert "TPU" in held
    assert held.get("GPU", 0) == 0
    assert held != {"CPU": 4}
    assert held != 3


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (Resources.of(cpus=4, devices=8, memory_bytes=gib(2)), "8 GPU, 4 CPU, 2 GiB memory"),
        (Resources({"CPU": 0.25, "disk": 3}), "3 disk, 0.25 CPU"),
        (Resources.of(memory_bytes=1500), "1.46 KiB memory"),
        (Resources.of(memory_bytes=15), "15 B memory"),
        (Resources({"object_store_memory": 2**40}), "1 TiB object_store_memory"),
        (Resources(), "nothing"),
    ],
)
def test_it_is_written_as_a_person_would(held: Resources, text: str) -> None:
    assert str(held) == text


def test_repr_can_be_typed() -> None:
    held = Resources.of(cpus=4, devices=0.5)
    assert eval(repr(held)) == held
    assert amount_text("GPU", 0) == "0 GPU"
