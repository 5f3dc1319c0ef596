"""Port leases: no two leases of a port overlap, whoever holds them (row C6, INV-12)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError, PoolError
from pool.host.ports import PortLeases, PortRange

PORTS = PortRange(42_310, 42_315)
ONE = PortRange(42_310, 42_310)


@pytest.fixture
def names() -> str:
    """Leases of one test are not seen by another."""
    return f"test-{uuid.uuid4().hex}"


def test_a_process_never_gets_a_port_twice_and_is_told_when_none_is_left(names: str) -> None:
    leases = PortLeases(PORTS, names)
    assert sorted(leases.lease() for _ in PORTS.ports) == list(PORTS.ports)
    with pytest.raises(PoolError, match=r"none of the 6 ports .*: 6 are leased by this process"):
        leases.lease()
    leases.release(42_312)
    assert leases.lease() == 42_312
    leases.close()


def test_two_holders_on_one_node_never_get_the_same_port(names: str) -> None:
    """As two pools, or two jobs."""
    one, two = PortLeases(PORTS, names), PortLeases(PORTS, names)
    ports = [holder.lease() for holder in (one, two, one, two)]
    assert len(set(ports)) == 4
    two.release(ports[0])
    assert one.lease() not in ports, "one cannot give back what another holds"
    two.lease()
    with pytest.raises(
        PoolError, match="3 are leased by this process, 3 by others, and 0 are used"
    ):
        one.lease()
    one.close()
    two.close()


def test_a_port_that_was_given_back_is_the_last_to_be_leased_again(names: str) -> None:
    """Whoever still calls the last consumer of a port is not to reach the next one."""
    leases = PortLeases(PORTS, names)
    seen = []
    for _ in PORTS.ports:
        seen.append(leases.lease())
        leases.release(seen[-1])
    assert sorted(seen) == list(PORTS.ports)
    assert leases.lease() == seen[0]
    leases.close()


SCRIPT = """
    import os, sys
    from pool.host.ports import PortLeases, PortRange
    leases = PortLeases(PortRange(42_310, 42_315), sys.argv[1])
    ports = [leases.lease() for _ in range(int(sys.argv[2]))]
    print(*ports, flush=True)
    sys.stdin.readline()
    os._exit(9)
"""


def lessee(names: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), names, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=20)


def told(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(port) for port in process.stdout.readline().split()]


def test_a_lease_goes_with_the_process_however_that_ends(names: str) -> None:
    process = lessee(names, 6)
    assert len(told(process)) == 6
    mine = PortLeases(PORTS, names)
    with pytest.raises(PoolError, match="0 are leased by this process, 6 by others"):
        mine.lease()
    end(process)
    assert mine.lease() in PORTS.ports
    mine.close()


def test_processes_that_lease_at_the_same_time_never_get_the_same_port(names: str) -> None:
    processes = [lessee(names, 2) for _ in range(3)]
    ports = [port for process in processes for port in told(process)]
    for process in processes:
        end(process)
    assert sorted(ports) == list(PORTS.ports)


STRESS = """
    import random, sys
    from pool.errors import PoolError
    from pool.host.ports import PortLeases, PortRange
    leases = PortLeases(PortRange(42_310, 42_315), sys.argv[1])
    chance = random.Random(sys.argv[2])
    held = []
    for _ in range(300):
        if held and chance.random() < 0.5:
            port = held.pop()
            os.unlink(f"{sys.argv[3]}/{port}")
            leases.release(port)
        elif len(held) < 2:
            try:
                port = leases.lease()
            except PoolError:
                continue  # A port behind the search got free while one before it was taken.
            # Fails where somebody else has the lease, or thinks so.
            os.close(os.open(f"{sys.argv[3]}/{port}", os.O_CREAT | os.O_EXCL))
            held.append(port)
    for port in held:
        os.unlink(f"{sys.argv[3]}/{port}")
"""


def test_processes_that_lease_and_give_back_all_the_time_never_share_a_port(
    names: str, tmp_path: Path
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "import os" + textwrap.dedent(STRESS), names, str(n), tmp_path]
        )
        for n in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, ""), (socket.AF_INET6, "::")])
def test_a_port_that_a_stranger_uses_is_passed_over_and_its_lease_given_back(
    family: socket.AddressFamily, address: str, names: str
) -> None:
    with socket.socket(family) as stranger:
        if family == socket.AF_INET6:
            stranger.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        stranger.bind((address, 42_311))
        stranger.listen()
        leases = PortLeases(PORTS, names)
        rest = [port for port in PORTS.ports if port != 42_311]
        assert sorted(leases.lease() for _ in rest) == rest
        with pytest.raises(PoolError, match="5 are leased by this process, 0 by others, and 1 are"):
            leases.lease()
    assert leases.lease() == 42_311
    leases.close()
    leases.close()


def test_a_name_that_cannot_be_taken_for_another_reason_is_no_lease_of_others() -> None:
    with pytest.raises(OSError, match="too long"):
        PortLeases(ONE, "n" * 200).lease()


# --- ranges ---------------------------------------------------------------------------------------


@given(
    first=st.integers(1, 500),
    more=st.integers(0, 100),
    without=st.sets(st.integers(1, 700), max_size=30),
)
def test_a_range_is_its_ports_without_the_others(first: int, more: int, without: set[int]) -> None:
    expected = [port for port in range(first, first + more + 1) if port not in without]
    if not expected:
        with pytest.raises(ConfigError, match="leaves no port"):
            PortRange(first, first + more, without)
        return
    made = PortRange(first, first + more, without)
    assert list(made.ports) == expected
    assert eval(repr(made)) == made
    assert {made} == {PortRange(first, first + more, [*without, *without])}


def test_the_default_lies_between_rays_ports_and_those_of_outgoing_connections() -> None:
    assert (PortRange().ports[0], PortRange().ports[-1]) == (20_000, 32_767)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((0, 5), "first"),
        ((True, 5), "first"),
        (("1", 5), "first"),
        ((1, 65_536), "last"),
        ((6, 5), "last"),
        ((1, 5, [0]), "without"),
        ((1, 5, ["2"]), "without"),
        ((1, 5, range(1, 6)), "without"),
    ],
)
def test_ports_that_are_none_are_refused(arguments: tuple[Any, ...], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        PortRange(*arguments)
    assert refused.value.field == field
