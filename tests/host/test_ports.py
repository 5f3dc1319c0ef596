"""Port leases: no two leases of a port overlap, whoever holds them (INV-12)."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pool.errors import ConfigError, PoolError
from pool.host.ports import PortLeases

PORTS = range(42_310, 42_316)


def test_a_process_never_gets_a_port_twice_and_is_told_when_none_is_left(tmp_path: Path) -> None:
    leases = PortLeases(PORTS, tmp_path)
    assert sorted(leases.lease() for _ in PORTS) == list(PORTS)
    with pytest.raises(PoolError, match=r"no port from 42310 to 42315 is free .*6 are leased"):
        leases.lease()
    leases.release(42_312)
    assert leases.lease() == 42_312
    leases.close()


def test_two_holders_on_one_node_never_get_the_same_port(tmp_path: Path) -> None:
    """As two pools, or two jobs, that share the folder."""
    one, two = PortLeases(PORTS, tmp_path), PortLeases(PORTS, tmp_path)
    ports = [holder.lease() for holder in (one, two, one, two)]
    assert len(set(ports)) == 4
    two.release(ports[0])
    assert one.lease() not in ports, "one cannot give back what another holds"
    one.close()
    two.close()


def test_a_lease_goes_with_the_process_however_that_ends(tmp_path: Path) -> None:
    script = f"""
        import os
        from pathlib import Path
        from pool.host.ports import PortLeases
        leases = PortLeases(range(42_310, 42_311), Path({str(tmp_path)!r}))
        print(leases.lease(), flush=True)
        input()
        os._exit(9)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "42310\n"
        mine = PortLeases(range(42_310, 42_311), tmp_path)
        with pytest.raises(PoolError):
            mine.lease()
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(20)
    assert mine.lease() == 42_310
    mine.close()


def test_a_port_that_a_stranger_uses_is_passed_over_and_its_lock_given_back(
    tmp_path: Path,
) -> None:
    with socket.socket() as stranger:
        stranger.bind(("", 42_311))
        stranger.listen()
        leases = PortLeases(PORTS, tmp_path)
        assert sorted(leases.lease() for _ in PORTS[1:]) == [42_310, *PORTS[2:]]
        with pytest.raises(PoolError):
            leases.lease()
    assert leases.lease() == 42_311
    leases.close()
    leases.close()


@pytest.mark.parametrize("ports", [[], [0], [65_536], [80, -1]])
def test_ports_that_are_none_are_refused(ports: list[int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 to 65535"):
        PortLeases(ports, tmp_path)
