"""The environment of JAX, and the arguments that are made of it (row E23)."""

from __future__ import annotations

import pytest
from hypothesis import given

import pool
from pool.planning.environment import RESERVED
from pool.rendezvous import Place, Scope, jax_arguments
from pool.rendezvous.jax import environments
from tests.rendezvous.crowds import CROWDS, PORTS


@pytest.mark.parametrize("scope", ["replica", "pool"])
@given(places=CROWDS, ports=PORTS)
def test_each_world_has_one_coordinator_on_the_host_of_its_process_0_and_all_ids_once(
    scope: Scope, places: list[Place], ports: list[int]
) -> None:
    count = len({place.replica for place in places}) if scope == "replica" else len(places[:1])
    built = environments(places, scope, ports[:count])
    assert all(set(each) <= set(RESERVED) for each in built)
    made = [jax_arguments(each) for each in built]
    worlds: dict[str, list[int]] = {}
    for each in made:
        worlds.setdefault(each["coordinator_address"], []).append(each["process_id"])
    assert len(worlds) == count
    for place, each in zip(places, made, strict=True):
        world = worlds[each["coordinator_address"]]
        assert sorted(world) == list(range(each["num_processes"]))
        if each["process_id"] == 0:
            assert each["coordinator_address"].startswith(f"{place.host.address}:")


def test_the_arguments_come_from_the_process_and_ask_no_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:4321")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    assert jax_arguments() == {
        "coordinator_address": "10.0.0.1:4321",
        "num_processes": 2,
        "process_id": 1,
        "cluster_detection_method": "deactivate",
    }


def test_arguments_without_an_environment_are_refused_with_what_is_missing() -> None:
    with pytest.raises(pool.ConfigError, match="JAX_NUM_PROCESSES and JAX_PROCESS_ID not set"):
        jax_arguments({"JAX_COORDINATOR_ADDRESS": "10.0.0.1:4321"})


def test_a_scope_that_is_none_is_refused() -> None:
    with pytest.raises(pool.ConfigError, match="'replica' or 'pool'"):
        pool.rendezvous.jax("node")  # type: ignore[arg-type]
