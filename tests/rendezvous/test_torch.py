"""The environment of torch.distributed (row E23; A11: the address is that of rank 0's own host)."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given

import pool
from pool.planning.environment import RESERVED
from pool.rendezvous import Place, Scope
from pool.rendezvous.torch import environments
from tests.rendezvous.crowds import CROWDS, PORTS, crowd


@pytest.mark.parametrize("scope", ["replica", "pool"])
@given(places=CROWDS, ports=PORTS)
def test_each_world_has_one_master_on_the_host_of_its_rank_0_and_all_ranks_once(
    scope: Scope, places: list[Place], ports: list[int]
) -> None:
    count = len({place.replica for place in places}) if scope == "replica" else len(places[:1])
    made = environments(places, scope, ports[:count])
    assert len(made) == len(places)
    assert all(set(each) <= set(RESERVED) for each in made)
    masters = set()
    whole = [*zip(places, made, strict=True)]
    for _, group in groupby(whole, lambda pair: pair[0].replica if scope == "replica" else 0):
        world = list(group)
        variables = [each for _, each in world]
        assert sorted(int(each["RANK"]) for each in variables) == list(range(len(world)))
        assert {each["WORLD_SIZE"] for each in variables} == {str(len(world))}
        [first] = [place for place, each in world if each["RANK"] == "0"]
        assert {each["MASTER_ADDR"] for each in variables} == {first.host.address}
        [port] = {each["MASTER_PORT"] for each in variables}
        masters.add(port)
        nodes = {(place.replica, place.host.index) for place, _ in world}
        assert {each["GROUP_WORLD_SIZE"] for each in variables} == {str(len(nodes))}
        assert sorted({int(each["GROUP_RANK"]) for each in variables}) == list(range(len(nodes)))
        for place, each in world:
            assert each["LOCAL_RANK"] == str(place.local_rank)
            assert each["LOCAL_WORLD_SIZE"] == str(place.local_size)
    assert len(masters) == count


def test_it_reads_as_torchrun_would_set_it() -> None:
    """Two nodes of two and three processes; the fourth process is the second node's second."""
    made = environments(crowd([[2, 3]]), "replica", [4321])
    assert made[3] == {
        "RANK": "3",
        "WORLD_SIZE": "5",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "3",
        "GROUP_RANK": "1",
        "GROUP_WORLD_SIZE": "2",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "4321",
    }


@pytest.mark.parametrize("port", [0, -1, 65_536, True, "80"])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(pool.ConfigError, match="1 to 65535"):
        pool.rendezvous.torch(port=port)
