"""A member's lease: who is heard, when it is over, and what a standstill means (INV-9)."""

from __future__ import annotations

import pytest

from pool.cluster.interface import Lease
from pool.cluster.lease import DOUBT_S, LATE_S, RESPITE_S, LeaseBook
from pool.errors import Fenced

LEASE = Lease(epoch=2, lasts_s=60, grace_s=10)


def test_a_word_from_the_owner_begins_the_lease_anew() -> None:
    book = LeaseBook("m", LEASE, 0)
    book.hear(LEASE, 30)
    assert (book.ends_at(), book.left_s(50)) == (90, 40)
    assert not book.is_over(60, 60)


def test_a_word_from_an_earlier_owner_is_refused_and_changes_nothing() -> None:
    book = LeaseBook("m", LEASE, 0)
    with pytest.raises(Fenced) as caught:
        book.hear(Lease(epoch=1, lasts_s=60, grace_s=10), 30)
    assert (caught.value.epoch, caught.value.later) == (1, 2)
    assert book.ends_at() == 60


def test_it_takes_two_looks_to_end_a_lease() -> None:
    book = LeaseBook("m", LEASE, 0)
    assert book.look_at() == 60
    assert not book.is_over(60, 60)
    assert book.look_at() == 60 + DOUBT_S
    assert book.is_over(61, 61)


def test_a_word_between_the_two_looks_is_in_time() -> None:
    """Who stood still until just before the first look hears what was sent meanwhile."""
    book = LeaseBook("m", LEASE, 0)
    assert not book.is_over(60.9, 60)
    book.hear(LEASE, 61)
    assert not book.is_over(61.9, 61.9)
    assert book.look_at() == 121


@pytest.mark.parametrize("look", ["first", "second"])
def test_who_looks_late_has_stood_still_and_listens_for_a_while(look: str) -> None:
    book = LeaseBook("m", LEASE, 0)
    due = 60.0
    if look == "second":
        assert not book.is_over(due, due)
        due = book.look_at()
    now = due + LATE_S + 40
    assert not book.is_over(now, due)
    assert book.look_at() == pytest.approx(now + RESPITE_S)
    assert not book.is_over(now + RESPITE_S, now + RESPITE_S)
    assert book.is_over(now + RESPITE_S + DOUBT_S, now + RESPITE_S + DOUBT_S)


def test_without_a_lease_there_is_no_end() -> None:
    book = LeaseBook("m", None, 0)
    assert not book.is_over(1e9, 1e9)
    assert book.left_s(1e9) == float("inf")
