"""Who is in which world, and at which rank (row E23, A11)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given

from pool.errors import ConfigError
from pool.rendezvous import Place, Scope
from pool.rendezvous.base import endpoint, worlds
from tests.rendezvous.crowds import CROWDS, crowd, host


@pytest.mark.parametrize("scope", ["replica", "pool"])
@given(places=CROWDS)
def test_each_place_has_one_seat_and_the_ranks_of_a_world_are_a_permutation(
    scope: Scope, places: list[Place]
) -> None:
    found = worlds(places, scope)
    numbers = [seat.number for world in found for seat in world.seats]
    assert sorted(numbers) == list(range(len(places)))
    for world in found:
        assert [seat.rank for seat in world.seats] == list(range(len(world.seats)))
        replicas = {places[seat.number].replica for seat in world.seats}
        assert scope == "pool" or len(replicas) == 1
        assert world.first == places[world.seats[0].number].host
    assert len(found) == len(
        {place.replica for place in places} if scope == "replica" else places[:1]
    )


@pytest.mark.parametrize("scope", ["replica", "pool"])
@given(places=CROWDS)
def test_a_node_of_a_world_is_one_host_and_its_ranks_are_in_a_row(
    scope: Scope, places: list[Place]
) -> None:
    for world in worlds(places, scope):
        hosts: dict[int, set[tuple[int, int]]] = {}
        for seat in world.seats:
            place = places[seat.number]
            hosts.setdefault(seat.node, set()).add((place.replica, place.host.index))
            first = world.seats[seat.rank - place.local_rank]
            assert (first.node, places[first.number].local_rank) == (seat.node, 0)
        assert sorted(hosts) == list(range(world.nodes))
        assert all(len(those) == 1 for those in hosts.values())
        assert len(set.union(*hosts.values())) == world.nodes


def test_no_places_make_no_world() -> None:
    assert worlds([], "replica") == worlds([], "pool") == []


def shuffled_hosts() -> list[Place]:
    one, two = crowd([[1, 1]])
    return [one, two, one]


def shuffled_replicas() -> list[Place]:
    places = crowd([[1], [1], [1]])
    return [places[0], places[2], places[1]]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (shuffled_hosts, "not in a row"),
        (shuffled_replicas, r"replicas \[0, 2, 1\]"),
        (lambda: [Place(0, host(0, 0, 1, 0), 1, 2)], "local rank"),
        (lambda: [Place(0, host(0, 0, 1, 0), 0, 2)], "ranks 0 to 0 of 1"),
        (lambda: [Place(1, host(1, 0, 1, 0))], "number the replicas"),
    ],
)
def test_places_that_are_out_of_order_are_refused(
    make: Callable[[], list[Place]], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        worlds(make(), "replica")
    assert refused.value.field == "places"


def test_an_ipv6_address_is_put_in_brackets_before_its_port() -> None:
    assert endpoint("10.0.0.1", 80) == "10.0.0.1:80"
    assert endpoint("fd00::1", 80) == "[fd00::1]:80"
