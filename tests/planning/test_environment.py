"""Reserved names, thread counts and visible devices (row A12)."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.environment import (
    DEVICE_VARIABLES,
    MARKER,
    RESERVED,
    THREAD_VARIABLES,
    check_environment,
    thread_defaults,
    visible_devices,
)

NAMES = st.text(
    st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1
).filter(lambda name: name not in RESERVED)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))

# --- reserved names -------------------------------------------------------------------------------


@given(st.dictionaries(NAMES, VALUES))
def test_whatever_a_process_can_have_and_the_pool_does_not_set_may_be_set(
    variables: dict[str, str],
) -> None:
    check_environment(variables, "env")


@given(st.dictionaries(NAMES, VALUES), st.sets(st.sampled_from(sorted(RESERVED)), min_size=1))
def test_what_the_pool_sets_is_refused_by_name_and_reason_with_the_whole_list(
    variables: dict[str, str], taken: set[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_environment(variables | dict.fromkeys(taken, "1"), "env")
    text = str(refused.value)
    first, _, rest = text.partition("; leave them out. Names that may not be set: ")
    assert refused.value.field == "env"
    assert {name for name in RESERVED if name in first.replace(",", "").split()} == taken
    assert all(RESERVED[name] in first for name in taken)
    assert all(name in rest for name in RESERVED)


def test_the_sentence_says_who_sets_what() -> None:
    with pytest.raises(ConfigError) as refused:
        check_environment({"RANK": "0", "WORLD_SIZE": "2", MARKER: "x", "HOME": "/"}, "env")
    assert str(refused.value).startswith(
        "env sets POOL_PROCESS (the pool knows its own processes by it); RANK, WORLD_SIZE "
        "(pool.rendezvous.torch() sets it); leave them out."
    )


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"": "1"}, "the name ''"),
        ({"A=B": "1"}, "the name 'A=B'"),
        ({"A\0": "1"}, "without NUL"),
        ({1: "1"}, "the name 1"),
        ({"A": 1}, r"env\['A'\] is 1"),
        ({"A": None}, r"env\['A'\] is None"),
        ({"A": "x\0y"}, "without NUL"),
    ],
)
def test_what_no_process_can_have_is_refused(variables: dict[Any, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_environment(variables, "env")


# --- thread counts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "threads"), [(0, "1"), (0.5, "1"), (1, "1"), (3.9, "3"), (64, "64")]
)
def test_threads_are_as_many_as_the_cpus_and_one_at_least(cpus: float, threads: str) -> None:
    assert thread_defaults(cpus) == dict.fromkeys(THREAD_VARIABLES, threads)


def test_a_value_of_the_user_wins() -> None:
    made = thread_defaults(8, {"MKL_NUM_THREADS": "2", "HOME": "/"})
    assert made == {
        "OMP_NUM_THREADS": "8",
        "OPENBLAS_NUM_THREADS": "8",
        "NUMEXPR_NUM_THREADS": "8",
    }


def test_the_users_omp_num_threads_counts_for_the_libraries_that_fall_back_to_it() -> None:
    made = thread_defaults(8, {"OMP_NUM_THREADS": "2"})
    assert made == dict.fromkeys(THREAD_VARIABLES[1:], "2")


@pytest.mark.parametrize("cpus", [-1, float("nan"), float("inf"), True, "4"])
def test_a_number_of_cpus_that_is_none_is_refused(cpus: Any) -> None:
    with pytest.raises(ConfigError, match="cpus"):
        thread_defaults(cpus)


# --- visible devices ------------------------------------------------------------------------------

IDS = st.lists(st.integers(0, 15), max_size=8, unique=True)


@given(st.dictionaries(st.sampled_from(sorted(DEVICE_VARIABLES)), IDS))
def test_exactly_the_devices_given_are_visible_and_of_other_kinds_none(
    ids_by_resource: dict[str, list[int]],
) -> None:
    made = visible_devices(ids_by_resource)
    for resource, kinds in DEVICE_VARIABLES.items():
        ids = ids_by_resource.get(resource, [])
        for kind in kinds:
            if not ids:
                assert made[kind.name] == kind.nothing
            elif kind.only_hides:
                assert kind.name not in made
            else:
                seen = [int(text.removeprefix("npu:")) for text in made[kind.name].split(",")]
                assert seen == (sorted(ids) if kind.is_ascending else ids)
    assert set(made) <= set(RESERVED)


def test_a_process_without_devices_sees_none_of_any_kind() -> None:
    made = visible_devices({})
    assert made["CUDA_VISIBLE_DEVICES"] == made["ROCR_VISIBLE_DEVICES"] == ""
    # These take an empty value for unset, and show all devices then.
    assert made["HIP_VISIBLE_DEVICES"] == made["ASCEND_RT_VISIBLE_DEVICES"] == "-1"
    assert made["ZE_AFFINITY_MASK"] == "65535"
    assert set(made) == {kind.name for kind in chain(*DEVICE_VARIABLES.values())}


def test_ids_are_passed_in_their_own_order_and_uuids_as_they_are() -> None:
    assert visible_devices({"GPU": [3, 1]})["CUDA_VISIBLE_DEVICES"] == "3,1"
    assert visible_devices({"GPU": ["GPU-8f", "MIG-1a"]})["HIP_VISIBLE_DEVICES"] == "GPU-8f,MIG-1a"
    # CANN refuses any other order than by number.
    assert visible_devices({"NPU": ["10", "9"]})["ASCEND_RT_VISIBLE_DEVICES"] == "9,10"
    assert visible_devices({"NPU": ["b", "a"]})["ASCEND_RT_VISIBLE_DEVICES"] == "a,b"


@pytest.mark.parametrize(
    ("chips", "bounds"), [([0], "1,1,1"), ([2, 3], "1,2,1"), ([0, 1, 2, 3], None)]
)
def test_libtpu_is_told_the_bounds_of_one_chip_and_of_two(
    chips: list[int], bounds: str | None
) -> None:
    made = visible_devices({"TPU": chips})
    assert made["TPU_VISIBLE_CHIPS"] == ",".join(map(str, chips))
    assert made.get("TPU_CHIPS_PER_HOST_BOUNDS") == bounds
    assert made.get("TPU_HOST_BOUNDS") == (bounds and "1,1,1")


def test_all_chips_of_a_tpu_host_are_not_named_one_by_one() -> None:
    made = visible_devices({"TPU": [0, 1, 2, 3], "GPU": [0]}, whole=["TPU", "GPU"])
    assert not [name for name in made if name.startswith("TPU_")]
    assert made["CUDA_VISIBLE_DEVICES"] == "0"
    assert visible_devices({}, whole=["TPU"])["TPU_VISIBLE_CHIPS"] == ""


@pytest.mark.parametrize(
    ("ids_by_resource", "says"),
    [
        ({"QPU": [0]}, "no kind of accelerator"),
        ({"GPU": [0, "0"]}, "each once"),
        ({"GPU": [""]}, "without commas"),
        ({"GPU": ["0,1"]}, "without commas"),
        ({"GPU": ["0 "]}, "without commas and spaces"),
        ({"GPU": ["0\n"]}, "without commas and spaces"),
    ],
)
def test_ids_that_would_show_other_devices_are_refused(
    ids_by_resource: dict[str, list[Any]], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        visible_devices(ids_by_resource)


def test_a_kind_that_is_not_known_and_has_no_ids_does_not_matter() -> None:
    assert visible_devices({"CPU": []}) == visible_devices({})
