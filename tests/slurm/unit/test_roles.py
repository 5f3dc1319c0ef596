from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.slurm.roles import assign, expand, padded

PREFIXES = st.from_regex(r"[a-z][a-z-]{0,4}", fullmatch=True)


def compress(prefix: str, first: int, last: int, width: int) -> tuple[str, list[str]]:
    names = [f"{prefix}{number:0{width}d}" for number in range(first, last + 1)]
    return f"{prefix}[{first:0{width}d}-{last:0{width}d}]", names


ranges = st.builds(
    lambda prefix, first, count, width: compress(prefix, first, first + count, width),
    PREFIXES,
    st.integers(0, 200),
    st.integers(0, 30),
    st.integers(1, 5),
)


@given(st.lists(ranges, min_size=1, max_size=4))
def test_what_is_compressed_is_expanded(pieces: list[tuple[str, list[str]]]) -> None:
    text = ",".join(piece for piece, _ in pieces)
    assert expand(text) == tuple(name for _, names in pieces for name in names)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3,07],x", ["n1", "n2", "n3", "n07", "x"]),
        ("r[1-2]n[01-02]-ib", ["r1n01-ib", "r1n02-ib", "r2n01-ib", "r2n02-ib"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("a.b.c,d-e", ["a.b.c", "d-e"]),
    ],
)
def test_as_slurm_has_them(text: str, names: list[str]) -> None:
    assert list(expand(text)) == names


@pytest.mark.parametrize(
    "text", ["", "a,", "n[1-", "n]1[", "n[3-1]", "n[a-b]", "n[[1]]", "n[1-9999999]", "n[]"]
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        expand(text)


@given(st.lists(PREFIXES, min_size=1, max_size=20, unique=True), st.data())
def test_each_host_has_one_rank_and_the_head_the_first(
    hosts: list[str], data: st.DataObject
) -> None:
    head = data.draw(st.sampled_from(["", *hosts]))
    roles = assign(hosts, head)
    assert [role.rank for role in roles] == list(range(len(hosts)))
    assert {role.host for role in roles} == set(hosts)
    assert roles[0].host == (head or hosts[0])
    assert [role.is_head for role in roles] == [True, *[False] * (len(hosts) - 1)]
    others = [role.host for role in roles[1:]]
    assert others == [host for host in hosts if host in others]


def test_a_head_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="n9"):
        assign(["n1", "n2"], "n9")
    with pytest.raises(ConfigError):
        assign(["n1", "n1"])
    with pytest.raises(ConfigError):
        assign([])


def test_names_of_logs_sort_as_ranks_do() -> None:
    for count in (1, 9, 10, 11, 100, 101):
        names = [padded(rank, count) for rank in range(count)]
        assert names == sorted(names)
        assert len(names[0]) == len(str(count - 1))
