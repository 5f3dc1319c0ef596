"""Starts that fail: what was raised, and where, is told; what cannot be sent is named."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
import ray

import pool
from tests.tree import ON_ONE_NODE, QUICK
from tests.world import World

pytestmark = pytest.mark.ray

ONCE = pool.RestartPolicy(intensity=0)


class Weightless(pool.NodeHost):
    """Have a start that raises, a call down."""

    def start(self) -> None:
        self.load()

    def load(self) -> None:
        raise KeyError("weights.bin")


class Unmade(pool.NodeHost):
    """Have a constructor that raises."""

    def __init__(self) -> None:
        raise KeyError("config.json")


class Late(pool.NodeHost):
    """Have a start that ran into a time-out of its own."""

    def start(self) -> None:
        raise TimeoutError("the model hub did not answer")


class Strange(Exception):
    """Be an error that cannot be pickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.lock = threading.Lock()


class Estranged(pool.NodeHost):
    """Have a start that raises what cannot be sent."""

    def start(self) -> None:
        raise Strange("no way", "at all")


class Locked(pool.NodeHost):
    """Have a start that returns what cannot be sent."""

    def start(self) -> dict[str, Any]:
        return {"port": 1, "lock": threading.Lock()}


class Holder(pool.NodeHost):
    """Take an argument."""

    def __init__(self, *args: Any) -> None:
        self.args = args


class Clumsy:
    """Be a rank whose constructor raises."""

    def __init__(self) -> None:
        raise ValueError("rank ctor")


class Taking:
    """Be a rank that takes an argument."""

    def __init__(self, model: object) -> None:
        self.model = model


class LockedRank:
    """Be a rank whose start returns what cannot be sent."""

    def start(self) -> Any:
        return threading.Lock()


class Model:
    """Hold a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.weights = "x" * 10_000


def failed(**options: Any) -> tuple[pool.SizeUnreachable, pool.ReplicaPool]:
    """Open a pool that never gets ready, and return why."""

    async def main() -> tuple[pool.SizeUnreachable, pool.ReplicaPool]:
        options.setdefault("restart", ONCE)
        async with pool.ReplicaPool("failed", shape=ON_ONE_NODE, **options) as replicas:
            with pytest.raises(pool.SizeUnreachable) as told:
                await replicas.scale(1, timeout_s=60)
            return told.value, replicas

    return anyio.run(main)


@pytest.mark.parametrize(
    ("options", "detail", "line"),
    [
        ({"host": Weightless}, "KeyError: 'weights.bin'", 'raise KeyError("weights.bin")'),
        ({"host": Unmade}, "KeyError: 'config.json'", 'raise KeyError("config.json")'),
        (
            {"host": Late},
            "TimeoutError: the model hub did not answer",
            'raise TimeoutError("the model hub did not answer")',
        ),
        ({"host": Estranged}, "Strange: no way", 'raise Strange("no way", "at all")'),
        (
            {"ranks": pool.Ranks(Clumsy, per_host=1)},
            "host 0: rank 0: ValueError: rank ctor",
            'raise ValueError("rank ctor")',
        ),
    ],
)
def test_what_a_start_raised_arrives_with_the_line_that_raised_it(
    world: World, options: dict[str, Any], detail: str, line: str
) -> None:
    error, replicas = failed(**options)
    [failure] = replicas.failures
    assert failure.cause is pool.Cause.START
    assert detail in failure.detail
    assert "\n" not in failure.detail
    assert line in failure.trace
    assert len(failure.trace) < 2100
    assert isinstance(error.__cause__, pool.PoolFailed)
    assert line in "\n".join(error.__cause__.__notes__)
    [event] = [e for e in replicas.events() if e.kind is pool.EventKind.MEMBER_FAULT]
    assert line in event.facts["trace"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"host": Weightless}, "KeyError: 'weights.bin'"),
        ({"ranks": pool.Ranks(Clumsy, per_host=1)}, "ValueError: rank ctor"),
    ],
)
def test_the_log_of_the_process_has_the_whole_of_it(
    world: World, options: dict[str, Any], line: str
) -> None:
    def said() -> int:
        # Where there are many, Ray puts those of processes that ended into a folder below.
        texts = [path.read_text(errors="replace") for path in logs.rglob("worker-*.err")]
        return sum(
            "Traceback (most recent call last)" in part and line in part
            for text in texts
            for part in text.split("event='start_failed'")[1:]
        )

    context = ray.get_runtime_context()
    logs = Path(context.get_temp_dir(), context.get_session_name(), "logs")
    before = said()
    failed(**options)
    world.eventually(lambda: said() == before + 1, lambda: sorted(logs.rglob("worker-*.err")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"host": Holder, "host_args": (1, Model())}, "host_args[1], a Model, cannot be pickled: "),
        (
            {"host": Holder, "host_args": ({"m": [Model()]},)},
            "host_args[0]['m'][0], a Model, cannot be pickled: ",
        ),
        ({"ranks": pool.Ranks(Taking, (Model(),))}, "ranks.args[0], a Model, cannot be pickled"),
    ],
)
def test_an_argument_that_cannot_be_pickled_is_named_and_not_tried_again(
    world: World, options: dict[str, Any], says: str
) -> None:
    error, replicas = failed(restart=QUICK, **options)
    [failure] = replicas.failures
    assert failure.cause is pool.Cause.VERDICT
    assert says in failure.detail
    assert "cannot pickle '_thread.lock' object" in failure.detail
    assert len(failure.detail) < 400
    assert len(str(error)) < 1500
    assert len(str(error.__cause__)) < 1500


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"host": Locked},
            "what start() of Locked returned cannot be sent to its owner: "
            "hosts[0].extra['lock'], a lock, ",
        ),
        (
            {"ranks": pool.Ranks(LockedRank, per_host=1)},
            "rank 0: what start() of LockedRank returned cannot be sent",
        ),
    ],
)
def test_a_result_of_a_start_that_cannot_be_pickled_is_named_and_not_tried_again(
    world: World, options: dict[str, Any], says: str
) -> None:
    _, replicas = failed(restart=QUICK, **options)
    [failure] = replicas.failures
    assert failure.cause is pool.Cause.VERDICT
    assert says in failure.detail
