"""What a pool's metrics say of it: counted from its events, set from how it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

import pool
from pool.cluster.meters import MeterKind
from pool.manager.events import Event
from pool.manager.metering import PERIOD_S, Metering
from pool.metrics import table
from pool.testing import MeterBook, SimNode, SimulatedCluster, run

Life = Callable[[SimulatedCluster, pool.ReplicaPool, MeterBook], Awaitable[None]]


def lived(life: Life, **options: object) -> MeterBook:
    book = MeterBook()

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 6, meters=book)
        shape = pool.ReplicaShape(devices=16)
        async with pool.ReplicaPool("r", shape=shape, cluster=cluster, **options) as replicas:  # type: ignore[arg-type]
            await replicas.scale(2)
            await life(cluster, replicas, book)

    run(main, limit_s=86_400)
    return book


def test_gauges_show_the_pool_as_it_is_and_nothing_once_it_is_gone() -> None:
    async def life(cluster: SimulatedCluster, replicas: pool.ReplicaPool, book: MeterBook) -> None:
        await anyio.sleep(PERIOD_S)
        assert book.seen("pool_members", pool="r", state="ready") == [3]
        assert book.total("pool_members") == 3
        assert book.seen("pool_desired_members") == [2]
        assert book.seen("pool_ready_members") == [2]
        assert book.seen("pool_ready_spares") == [1]
        assert book.seen("pool_settled") == [1]
        assert book.seen("pool_restart_budget_limit", cause="shared") == [5]

    book = lived(life, spares=1)
    assert book.total("pool_members") == 0
    assert book.seen("pool_desired_members") == [0]


def test_a_failure_is_counted_by_its_cause_and_timed_until_the_rank_is_ready_again() -> None:
    async def life(cluster: SimulatedCluster, replicas: pool.ReplicaPool, book: MeterBook) -> None:
        cluster.crash(replicas.handles()[0])
        begun = anyio.current_time()
        await anyio.sleep(0.1)
        await replicas.wait_settled(60)
        took_s = anyio.current_time() - begun
        await anyio.sleep(PERIOD_S)
        assert book.total("pool_failures_total", cause="crash") == 1
        [recovery_s] = book.seen("pool_recovery_seconds", cause="crash")
        assert recovery_s == pytest.approx(took_s, abs=0.2)
        assert book.total("pool_restart_budget_used", cause="shared") == 1

    book = lived(life)
    assert book.total("pool_starts_total") == 3
    assert len(book.seen("pool_start_seconds")) == 3
    assert book.total("pool_drain_seconds", rung="gone") >= 0
    assert len(book.seen("pool_drain_seconds")) == 3
    assert book.total("pool_events_total", kind="pool_closed") == 1
    assert book.total("pool_events_total", kind="pool_opened") == 1


def test_a_rank_that_a_spare_takes_over_has_recovered_then() -> None:
    async def life(cluster: SimulatedCluster, replicas: pool.ReplicaPool, book: MeterBook) -> None:
        await replicas.wait_settled(60)
        cluster.crash(replicas.handles()[0])
        await anyio.sleep(20)
        [recovery_s] = book.seen("pool_recovery_seconds")
        assert recovery_s < 0.5

    lived(life, spares=1)


def test_a_member_that_does_not_answer_is_detected_after_its_health_policy_says() -> None:
    async def life(cluster: SimulatedCluster, replicas: pool.ReplicaPool, book: MeterBook) -> None:
        cluster.hang(replicas.handles()[0], "check_health")
        await anyio.sleep(60)
        [detection_s] = book.seen("pool_detection_seconds")
        assert 1 < detection_s < 30
        assert book.total("pool_failures_total", cause="unhealthy") == 1

    lived(life)


def test_notices_and_troubles_of_sources_are_counted() -> None:
    async def life(cluster: SimulatedCluster, replicas: pool.ReplicaPool, book: MeterBook) -> None:
        cluster.drain_node(replicas[0].nodes[0], in_s=100)
        await anyio.sleep(30)
        assert book.total("pool_notices_total", cause="preemption") == 1

    lived(life)


def test_jobs_are_the_load_of_a_pool() -> None:
    async def life(cluster: SimulatedCluster, replicas: pool.ReplicaPool, book: MeterBook) -> None:
        assert book.seen("pool_jobs") == [0]

    lived(life)


def test_the_pools_inside_of_replicas_are_not_metered() -> None:
    async def life(cluster: SimulatedCluster, replicas: pool.ReplicaPool, book: MeterBook) -> None:
        assert book.seen("pool_events_total", pool="r")
        assert not book.seen("pool_events_total", pool="r/0.1")

    lived(life)


def test_where_nobody_collects_nothing_is_done() -> None:
    assert not Metering("r", SimulatedCluster()).is_on


@pytest.mark.parametrize("kind", pool.EventKind)
def test_every_kind_of_event_is_counted(kind: pool.EventKind) -> None:
    book = MeterBook()
    metering = Metering("r", SimulatedCluster(meters=book))
    facts = {"state": "ready", "cause": "crash", "took_s": 1.0, "rung": "hook", "source": "gce"}
    metering.note(Event(kind, 1.0, "r", 0, 1, facts))
    assert book.total("pool_events_total", kind=str(kind)) == 1


def test_names_keep_the_conventions_of_prometheus() -> None:
    names = [meter.name for meter in table.METERS]
    assert len(names) == len(set(names)) > 20
    for meter in table.METERS:
        assert meter.name.startswith("pool_")
        assert meter.labels[0] == "pool"
        assert meter.text.endswith(".")
        assert meter.name.endswith("_total") == (meter.kind is MeterKind.COUNTER)
        assert meter.name.endswith("_seconds") == (meter.kind is MeterKind.HISTOGRAM)
