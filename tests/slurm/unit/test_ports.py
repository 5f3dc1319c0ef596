from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.slurm.ports import OFFSETS, Block, Ports, in_ephemeral_range


def all_of(block: Block) -> list[int]:
    return [*block.named.values(), *range(block.worker_min, block.worker_max + 1)]


@given(
    st.integers(1024, 12_000), st.integers(1024, 12_000), st.integers(100, 900), st.integers(1, 4)
)
def test_no_port_is_in_two_places(base: int, workers: int, count: int, blocks: int) -> None:
    try:
        ports = Ports(base=base, workers=workers, worker_count=count, blocks=blocks)
    except ConfigError:
        spans = [(base, blocks * len(OFFSETS)), (workers, blocks * count)]
        (first, length), (second, _) = sorted(spans)
        assert second < first + length
        return
    used = [port for number in range(blocks) for port in all_of(ports.block(number))]
    assert len(used) == len(set(used))


def test_the_default_is_below_every_ephemeral_range() -> None:
    ports = Ports()
    assert max(span.stop for span in ports.spans()) <= 9000
    assert in_ephemeral_range(ports, 32_768, 60_999) == ""
    assert in_ephemeral_range(ports, 9_000, 65_000) == ""
    assert "ports.workers" in in_ephemeral_range(ports, 5_000, 65_000)
    assert "ports.base" in in_ephemeral_range(ports, 1024, 1300)


def test_the_calls_are_those_of_the_blocks() -> None:
    ports = Ports(blocks=3)
    assert ports.calls() == tuple(1200 + n * len(OFFSETS) for n in range(3))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base": 1970}, "ports.base"),
        ({"base": 1000}, "ports.base"),
        ({"workers": 65_000}, "ports.workers"),
        ({"workers": 1210}, "ports.base"),
        ({"blocks": 0}, "ports.blocks"),
        ({"blocks": 65}, "ports.blocks"),
        ({"worker_count": 10}, "ports.worker_count"),
    ],
)
def test_collisions_are_refused(change: dict[str, int], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Ports(**change)
    assert caught.value.field == field
