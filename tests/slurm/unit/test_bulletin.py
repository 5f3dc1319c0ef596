from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool.process.exits import Exit
from pool.slurm.bulletin import card_of, gcs_of, status_of
from pool.slurm.course import Course, Outcome
from pool.slurm.driver import Driver
from pool.slurm.environment import KEY
from pool.slurm.home import Home
from pool.slurm.job import Service, SlurmJob
from pool.slurm.judge import Stage
from pool.slurm.place import Place
from pool.slurm.setting import Setting
from pool.slurm.standing import Standing
from pool.slurm.status import describe

ENVIRON = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NODEID": "0", KEY: "k"}
JOB = SlurmJob(name="a", nodes=2, services=(Service(name="web", command=("serve",), where=1),))


class Seen(Driver):
    """A driver of which only is known what is seen."""

    def __init__(self, ended: Exit | None) -> None:
        self._ended = ended

    @property
    def pid(self) -> int:
        return 44

    @property
    def exit(self) -> Exit | None:
        return self._ended


@pytest.fixture
def setting() -> Iterator[Setting]:
    place = Place.of(ENVIRON)
    with socket.socket() as claim:
        yield Setting(
            job=JOB,
            place=place,
            home=Home(Path("/none"), place.mark, 0.0),
            block=JOB.ports.block(1),
            claim=claim,
            address="10.0.0.1",
            environ={},
        )


def standing_of(setting: Setting) -> Standing:
    return Standing(setting.place.roles, JOB.services, JOB.least, lambda: None)


def test_the_card_says_where_the_head_is_and_of_which_run(setting: Setting) -> None:
    assert card_of(setting) == {
        "cluster": setting.place.cluster,
        "job": "7",
        "attempt": 0,
        "host": "n1",
        "address": "10.0.0.1",
        "call": setting.block["call"],
        "gcs": gcs_of(setting),
    }
    assert gcs_of(setting) == f"10.0.0.1:{setting.block['gcs']}"


def test_a_status_says_first_where_then_how_then_who(setting: Setting) -> None:
    """Its readers know fields by name; people read the file from the top."""
    status = status_of(setting, Course(JOB, 100.0), standing_of(setting), None, 103.0)
    assert list(status) == [
        *card_of(setting), "name", "phase", "dashboard", "started_at", "ready_at", "updated_at",
        "min_nodes", "nodes", "services", "driver", "notice", "outcome",
    ]  # fmt: skip
    assert json.loads(json.dumps(status)) == status
    assert (status["phase"], status["started_at"], status["updated_at"]) == (
        "bring-up",
        100.0,
        103.0,
    )
    assert status["dashboard"] == f"10.0.0.1:{setting.block['dashboard']}"
    assert [status[name] for name in ("ready_at", "driver", "notice", "outcome")] == [None] * 4


def test_what_is_published_can_be_shown(setting: Setting) -> None:
    course, standing = Course(JOB, 100.0), standing_of(setting)
    standing.place_head("10.0.0.1", 0.0)
    standing.move(0, Stage.JOINED, 1.0)
    standing.lose(1, "it fell", 2.0)
    course.run(110.0)
    course.take_notice({"reason": "soon", "deadline": 130.0})
    shown = describe(status_of(setting, course, standing, Seen(None), 120.0), 120.0)
    assert "job 7 (a), run 0: running, 1 of 2 nodes (at least 2), since 0:00:20" in shown
    assert "notice: soon; 10 s are left" in shown
    assert "driver: pid 44, runs" in shown
    assert "1  n2  lost      -  it fell" in shown
    assert "rank 1, failed: it fell" in shown
    course.end(Outcome(137, "the driver ended"))
    ended = status_of(setting, course, standing, Seen(Exit(signal=9)), 121.0)
    assert ended["outcome"] == {"code": 137, "why": "the driver ended"}
    assert "driver: pid 44, ended with 137" in describe(ended, 121.0)
