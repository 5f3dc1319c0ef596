"""Portions: what a worker takes of its host's bundle, and which devices it is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.portion import hand_out, portion
from pool.planning.resources import UNITS_PER_ONE, Resources, gib

NODE = Resources.of(devices=8, cpus=32, memory_bytes=gib(64))
CPUS = Resources.of(cpus=4)


@pytest.mark.parametrize(
    ("bundle", "devices", "cpus", "taken"),
    [
        (NODE, None, None, NODE),
        (NODE, 2, None, Resources.of(devices=2, cpus=8, memory_bytes=gib(16))),
        (NODE, 0.5, None, Resources.of(devices=0.5, cpus=2, memory_bytes=gib(4))),
        (NODE, 2, 1, Resources.of(devices=2, cpus=1, memory_bytes=gib(16))),
        (NODE, 2, 0, Resources.of(devices=2, memory_bytes=gib(16))),
        (NODE, 0, None, Resources.of(cpus=1)),
        (NODE, 0, 3, Resources.of(cpus=3)),
        (CPUS, None, None, Resources.of(cpus=1)),
        (CPUS, None, 2.5, Resources.of(cpus=2.5)),
        (Resources.of(cpus=0.25), None, None, Resources.of(cpus=0.25)),
        (Resources.of(devices=2), 1, None, Resources.of(devices=1)),
    ],
)
def test_who_takes_a_part_of_the_devices_takes_as_much_of_the_rest(
    bundle: Resources, devices: float | None, cpus: float | None, taken: Resources
) -> None:
    assert portion(bundle, "GPU", devices, cpus) == taken


@pytest.mark.parametrize(
    ("bundle", "devices", "cpus", "message"),
    [
        (NODE, 9, None, "devices is 9.*give at most 8"),
        (NODE, 1.5, None, "devices is 1.5; give a whole number, or a part of one"),
        (CPUS, 1, None, "devices is 1.*give at most 0"),
        (NODE, 1, 33, "cpus is 33.*give at most 32"),
        (NODE, -1, None, "devices is -1; give 0 or more"),
    ],
)
def test_what_no_bundle_can_give_is_refused(
    bundle: Resources, devices: float | None, cpus: float | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        portion(bundle, "GPU", devices, cpus)


@given(st.integers(1, 16), st.integers(0, 64), st.data())
def test_workers_on_all_devices_fit_together(devices: int, cpus: int, data: st.DataObject) -> None:
    """INV-8: whatever whole numbers of devices add up to the bundle's, the portions fit it."""
    bundle = Resources.of(devices=devices, cpus=cpus)
    left, total = devices, Resources()
    while left:
        each = data.draw(st.integers(1, left))
        total += portion(bundle, "GPU", each)
        left -= each
    assert total.fits_in(bundle)
    assert total.units("GPU") == bundle.units("GPU")


free = st.dictionaries(
    st.integers(0, 15).map(str), st.integers(0, UNITS_PER_ONE), min_size=1, max_size=8
)


@given(free, st.integers(1, 8 * UNITS_PER_ONE))
def test_devices_are_given_whole_or_in_part_and_never_twice(
    free: dict[str, int], wanted: int
) -> None:
    """INV-12."""
    if wanted > UNITS_PER_ONE:
        wanted -= wanted % UNITS_PER_ONE
    given_out = hand_out(wanted, free)
    empty = [name for name, units in free.items() if units == UNITS_PER_ONE]
    if given_out is None:
        if wanted >= UNITS_PER_ONE:
            assert len(empty) < wanted // UNITS_PER_ONE
        else:
            assert all(units < wanted for units in free.values())
        return
    assert sum(given_out.values()) == wanted
    assert all(units <= free[name] for name, units in given_out.items())
    if wanted < UNITS_PER_ONE:
        [name] = given_out
        assert not any(wanted <= units < free[name] for units in free.values())
