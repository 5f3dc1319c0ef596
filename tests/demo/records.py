"""A record of a demo in which everything went well, for tests to spoil."""

from __future__ import annotations

from pool.demo.corpus import Count
from pool.demo.record import LeftBehind, Record
from pool.demo.story import Standing, Step

CENSUS = {"json": Count(files=6, lines=1000, functions=50, classes=4), "test": Count(1, 1, 10)}


def standing(number: int) -> Standing:
    return Standing(f"actor{number}", (("node0", 100 + number), ("node1", 200 + number)))


def good_record() -> Record:
    """Return what a demo without a fault writes down."""
    grow = Step(
        name="grow",
        what="scale(3), from 2 replicas",
        at_share=0.1,
        at=1000.0,
        victims=(),
        before={"demo/0.1": standing(1), "demo/1.1": standing(2)},
        after={"demo/0.1": standing(1), "demo/1.1": standing(2), "demo/2.1": standing(3)},
        detected_at=1000.001,
        ready_at=1002.5,
        results=30,
    )
    kill = Step(
        name="kill",
        what="kill -9 202, the node host 1 of demo/1.1",
        at_share=0.35,
        at=1010.0,
        victims=("demo/1.1",),
        before=grow.after,
        after={"demo/0.1": standing(1), "demo/1.2": standing(4), "demo/2.1": standing(3)},
        detected_at=1010.012,
        left_at=1010.05,
        ready_at=1012.25,
        results=40,
        cause="crash",
    )
    notice = Step(
        name="notice",
        what="notice that node abcdef of demo/0.1 goes away in 60 s",
        at_share=0.6,
        at=1020.0,
        victims=("demo/0.1",),
        before=kill.after,
        after={"demo/1.2": standing(4), "demo/2.1": standing(3), "demo/3.1": standing(5)},
        detected_at=1020.2,
        ready_at=1022.0,
        drained_at=1022.001,
        left_at=1022.5,
        results=50,
        rung="hook",
    )
    return Record(
        took_s={"cluster": 15.0, "pool": 3.0, "map": 30.0, "total": 60.0},
        serial=CENSUS,
        passes=[dict(CENSUS) for _ in range(3)],
        items_sent=300,
        results=300,
        results_by_then=250,
        steps=[grow, kill, notice],
        left_behind=LeftBehind([], [], [], 15, [], 45),
    )
