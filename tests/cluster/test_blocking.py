"""The same pool from a script without asyncio."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

import pytest

import pool
from pool import blocking
from tests import hosts
from tests.tree import BRIEF, ON_ONE_NODE, QUICK, hosts_of, ids_of, kill
from tests.world import World

pytestmark = pytest.mark.ray


def open_pool() -> blocking.ReplicaPool:
    return blocking.ReplicaPool(
        "plain", shape=ON_ONE_NODE, restart=QUICK, drain=BRIEF, host=hosts.Talkative
    )


def test_a_script_scales_broadcasts_maps_and_drains(world: World) -> None:
    with open_pool() as replicas:
        assert replicas.scale(2, timeout_s=60).is_complete
        assert replicas.desired == 2
        first = ids_of(replicas[0])
        pids = [[host.pid for host in hosts_of(member)] for member in replicas.members()]
        assert replicas.broadcast(os.getpid) == pids
        assert replicas.broadcast("square", 3, flat=True) == [9, 9]
        assert list(replicas.map(abs, range(-30, 0))) == list(range(30, 0, -1))
        assert replicas.snapshot().ready == 2
        replicas.scale(1, timeout_s=60)
        assert ids_of(replicas[0]) == first
        [report] = replicas.drain(timeout_s=30)
        assert (report.rung, report.troubles) == ("hook", ())
        assert pool.EventKind.POOL_SCALED in {event.kind for event in replicas.events()}
    with pytest.raises(pool.PoolClosed):
        replicas.scale(1)


def test_a_member_killed_under_a_blocking_map_loses_nothing(world: World) -> None:
    with open_pool() as replicas:
        replicas.scale(2, timeout_s=60)
        outs = []
        for out in replicas.map(hosts.slowly, range(100)):
            outs.append(out)
            if out == 10:
                kill(hosts_of(replicas[1])[0].pid)
        assert outs == list(range(100))
        replicas.wait_settled(60)


def test_the_pool_goes_on_by_itself_while_the_script_does_something_else(world: World) -> None:
    with open_pool() as replicas:
        replicas.scale(1, timeout_s=60)
        kill(hosts_of(replicas[0])[0].pid)
        until = time.monotonic() + 60
        while not any(member.generation == 2 for member in replicas.members(serving=True)):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_errors_arrive_as_themselves_and_leave_nothing(world: World) -> None:
    with pytest.raises(pool.ConfigError, match="shape"), blocking.ReplicaPool("plain", shape=None):
        pass

    def script() -> None:
        with open_pool() as replicas:
            with pytest.raises(pool.InfeasibleError):
                replicas.scale(1000, timeout_s=5)
            replicas.scale(1, timeout_s=60)
            with pytest.raises(ValueError, match="remote"):
                replicas.broadcast(hosts.fail, "remote")
            for out in replicas.map(hosts.slowly, itertools.count()):
                if out == 3:
                    break
            raise KeyError("the block's own")

    with pytest.raises(KeyError, match="the block's own"):
        script()


def test_a_pool_that_was_not_entered_takes_no_calls() -> None:
    with pytest.raises(pool.PoolClosed, match=r"with pool\.blocking"):
        open_pool().scale(1)


def test_the_blocking_face_needs_no_import_of_its_own() -> None:
    script = "import pool; print(pool.blocking.ReplicaPool.__name__)"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stdout.strip() == "ReplicaPool", run.stderr
