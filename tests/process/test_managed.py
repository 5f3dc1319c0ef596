"""The life of a managed process, with real processes: nothing is left, and every end is told."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pool.errors import ConfigError, LaunchFailed, PoolError, ProcessFailed, ProcessTimeout
from pool.planning.health import HealthPolicy
from pool.planning.lifecycle import State
from pool.planning.restart import Cause, RestartPolicy
from pool.process.exits import Exit
from pool.process.fill import Fill
from pool.process.launch import Running, launch
from pool.process.managed import ManagedProcess
from pool.process.marker import find
from pool.process.order import Launch
from pool.process.pids import is_alive
from pool.process.probes import Probe, Site, file, function, log, tcp
from pool.process.spec import Liveness, Process

SOON = RestartPolicy(intensity=2, delay_s=0.05, delay_max_s=0.05, jitter=0)
QUICK = HealthPolicy(period_s=0.03, timeout_s=1, failures=2, grace_s=0)
FOR_EVER = "exec sleep 1000"


@dataclass
class Launcher:
    """Start processes, late if so told, and remember them."""

    delay_s: float = 0
    running: list[Running] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)

    async def __call__(self, what: Launch) -> Running:
        self.launches.append(what)
        await asyncio.sleep(self.delay_s)
        running = await launch(what)
        self.running.append(running)
        return running


@dataclass
class Bench:
    """Make managed processes, and see afterwards that none is left."""

    folder: Path
    launch: Launcher = field(default_factory=Launcher)
    told: list[tuple[Cause, str]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "engine.log"

    def process(
        self, script: str | list[str | Fill], ports: dict[str, int] | None = None, **settings: Any
    ) -> ManagedProcess:
        argv = ["sh", "-c", script] if isinstance(script, str) else script
        settings = {"name": "engine", "grace_s": 5, "cwd": str(self.folder), **settings}
        return ManagedProcess(
            Process(argv, ports=list(ports or ()), **settings),
            environment={"PATH": os.environ["PATH"], "NODE": "n1"},
            ports=ports or {},
            address="127.0.0.1",
            log=self.log,
            launch=self.launch,
            on_failed=lambda cause, detail: self.told.append((cause, detail)),
        )

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await main()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, "a task is left"
            for running in self.launch.running:
                assert not find(running.marker), "a process is left"

        asyncio.run(bounded())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def until(true: Callable[[], object]) -> None:
    while not true():  # noqa: ASYNC110  # what is waited for happens outside of this process
        await asyncio.sleep(0.005)


def test_a_process_is_started_awaited_shown_and_stopped(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process(
            [
                "sh",
                "-c",
                'echo "$0 $OWN"; sleep 0.1; echo up; exec sleep 1000',
                Fill("{address}:{web}"),
            ],
            ports={"web": 4711},
            env={"OWN": Fill("{NODE}!")},
            ready=log("^up$"),
        )
        before = process.status()
        assert (before.state, before.pid, before.starts) == (State.PENDING, None, 0)
        began = time.time()
        await process.start()
        status = process.status()
        assert pickle.loads(pickle.dumps(status)) == status
        assert status.state is State.READY
        assert status.pid == bench.launch.running[0].pid
        assert status.starts == 1
        assert status.exit is None
        assert status.ports == {"web": 4711}
        assert status.ready_since is not None
        assert began <= status.since <= status.ready_since + 0.1 <= time.time() + 0.1
        assert "\n127.0.0.1:4711 n1!\n" in bench.log.read_text()
        report = await process.stop()
        assert report.rung == "terminated"
        assert report.exit == Exit(None, signal.SIGTERM)
        assert await process.wait() == report.exit
        assert await process.stop() == report, "stopping is idempotent"
        process.check_health()
        status = process.status()
        assert (status.state, status.pid, status.ready_since) == (State.GONE, None, None)

    bench.run(main)
    assert bench.told == [], "an end that was asked for is no failure"


def test_what_is_missing_is_told_before_anything_is_started(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="'nowhere'"):
        bench.process([Fill("{nowhere}")])
    assert bench.launch.launches == []


def test_an_exit_ends_the_wait_for_readiness_at_once(bench: Bench) -> None:
    async def main() -> None:
        bench.log.write_text("of an earlier start\n")
        process = bench.process("echo no CUDA; exit 3", ready=log("up"), restart=SOON)
        with pytest.raises(ProcessFailed) as failure:
            await process.start()
        error = failure.value
        assert str(error) == (
            "process 'engine' ended with exit code 3 before it was ready; its last lines:\nno CUDA"
        )
        assert (error.code, error.signal, error.log_tail) == (3, None, "no CUDA\n")
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert await process.wait() == Exit(3, None)
        with pytest.raises(ProcessFailed):
            process.check_health()
        with pytest.raises(PoolError, match="was started before"):
            await process.start()

    bench.run(main)
    assert bench.told == [], "the caller of start was told"
    assert len(bench.launch.launches) == 1, "a first start is not tried again"


def test_a_killer_is_named_by_its_signal(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process("kill -KILL $$", ready=log("up"))
        with pytest.raises(ProcessFailed, match=r"was killed by SIGKILL \(9\) before it was ready"):
            await process.start()

    bench.run(main)


def test_a_program_that_is_not_there_fails_the_start(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process(["no-such-program"])
        with pytest.raises(LaunchFailed, match="no-such-program"):
            await process.start()
        assert await process.wait() is None
        assert process.status().state is State.GONE
        with pytest.raises(LaunchFailed):
            process.check_health()

    bench.run(main)


def test_a_process_that_never_gets_ready_is_stopped_and_what_was_seen_is_told(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process(
            "echo loading; " + FOR_EVER, ready=log("up"), ready_timeout_s=0.2, restart=SOON
        )
        with pytest.raises(ProcessTimeout) as failure:
            await process.start()
        assert str(failure.value) == (
            "process 'engine' was not ready after 0.2 s; its probe last saw: "
            "no line matches 'up'; the last is loading; its last lines:\nloading"
        )
        assert isinstance(failure.value, TimeoutError)
        assert process.status().state is State.GONE

    bench.run(main)


def test_an_end_that_nobody_asked_for_is_told_once(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process("read go < go; echo bye; exit 4", ready=function(bool))
        os.mkfifo(bench.folder / "go")
        await process.start()
        (bench.folder / "go").write_text("\n")
        assert await process.wait() == Exit(4, None)
        with pytest.raises(ProcessFailed) as failure:
            process.check_health()
        detail = "process 'engine' ended with exit code 4; its last lines:\nbye"
        assert str(failure.value) == detail
        assert bench.told == [(Cause.CRASH, detail)]
        assert (await process.stop()).rung == "already"
        assert len(bench.told) == 1

    bench.run(main)


def test_exit_code_0_without_restarts_is_a_finish(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process("true")
        await process.start()
        assert await process.wait() == Exit(0, None)
        process.check_health()
        assert process.status().reason == "finished"
        assert (await process.stop()).exit == Exit(0, None)

    bench.run(main)
    assert bench.told == []


def test_a_process_is_restarted_until_its_policy_says_no(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process("echo start; sleep 0.05; exit 0", restart=SOON)
        await process.start()
        states = set()
        while not process._is_gone.is_set():
            states.add(process.status().state)
            await asyncio.sleep(0.001)
        assert await process.wait() == Exit(0, None)
        assert states >= {State.PENDING, State.READY}
        status = process.status()
        assert status.starts == 3
        assert "more than the allowed 2 restart(s)" in str(process._failure)

    bench.run(main)
    assert [cause for cause, _ in bench.told] == [Cause.CRASH]
    assert "its last lines:\nstart" in bench.told[0][1]
    assert bench.log.read_text().count("\nstart\n") == 3, "each start appends to the same log"


def test_a_restart_has_to_get_ready_as_well_and_by_its_own_words(bench: Bench) -> None:
    """The second start never says that it is up; that the first one did must not count."""

    async def main() -> None:
        script = f"test -e seen && {{ echo again; {FOR_EVER}; }}; touch seen; echo up; sleep 0.1"
        process = bench.process(script, ready=log("^up$"), ready_timeout_s=0.4, restart=SOON)
        await process.start()
        await process.wait()
        assert process.status().starts == 3

    bench.run(main)
    assert [cause for cause, _ in bench.told] == [Cause.START]
    assert "its probe last saw: no line matches '^up$'; the last is again" in bench.told[0][1]


def test_a_process_that_is_not_alive_is_stopped_and_restarted(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process(
            f"echo $$ > beat; {FOR_EVER}",
            ready=file("beat"),
            alive=Liveness(file("beat"), QUICK),
            restart=SOON,
        )
        await process.start()
        first = process.status().pid
        (bench.folder / "beat").unlink()
        await until(lambda: process.status().state is State.SUSPECT)
        assert "no file" in process.status().health
        await until(lambda: process.status().starts == 2)
        await until(lambda: process.status().state is State.READY)
        status = process.status()
        assert status.pid != first
        assert status.exit == Exit(None, signal.SIGTERM)
        assert "unhealthy" in process._failures[0].cause
        await process.stop()

    bench.run(main)
    assert bench.told == []


def test_a_process_that_comes_back_to_life_is_left_alone(bench: Bench) -> None:
    patient = HealthPolicy(period_s=0.02, timeout_s=1, failures=1000, grace_s=0)

    async def main() -> None:
        beat = bench.folder / "beat"
        beat.touch()
        process = bench.process(
            FOR_EVER, alive=Liveness(function(lambda _: beat.exists()), patient)
        )
        await process.start()
        beat.unlink()
        await until(lambda: process.status().state is State.SUSPECT)
        beat.touch()
        await until(lambda: process.status().state is State.READY)
        await process.stop()
        assert process.status().starts == 1

    bench.run(main)


def test_illness_without_restarts_is_told(bench: Bench) -> None:
    async def main() -> None:
        sick = Liveness(tcp("web"), QUICK)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        process = bench.process(FOR_EVER, ports={"web": port}, alive=sick)
        await process.start()
        await process.wait()
        assert process.status().state is State.GONE

    bench.run(main)
    [(cause, detail)] = bench.told
    assert cause is Cause.UNHEALTHY
    assert "was not alive: its own check failed" in detail
    assert "connection refused" in detail


def test_the_grace_is_honoured_and_then_it_is_killed(bench: Bench) -> None:
    async def main() -> None:
        deaf = "trap '' TERM; echo up; while :; do sleep 0.05; done"
        process = bench.process(deaf, ready=log("up"))
        await process.start()
        began = time.monotonic()
        first, second = await asyncio.gather(process.stop(60), process.stop(0.3))
        assert 0.3 <= time.monotonic() - began < 3
        assert first == second, "they share one stop"
        assert first.rung == "killed"
        assert first.exit == Exit(None, signal.SIGKILL)
        polite = bench.process(
            "trap 'sleep 0.2; exit 7' TERM; echo up; sleep 9 & wait", ready=log("up")
        )
        await polite.start()
        assert (await polite.stop(5)).exit == Exit(7, None)

    bench.run(main)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
def test_a_grace_that_cannot_be_is_refused_and_stops_nothing(bench: Bench, wrong: float) -> None:
    async def main() -> None:
        process = bench.process(FOR_EVER)
        await process.start()
        with pytest.raises(ConfigError, match="grace_s is"):
            await process.stop(wrong)
        assert process.status().state is State.READY
        await process.stop()

    bench.run(main)


@pytest.mark.parametrize("delay_s", [0, 0.3])
def test_a_stop_cuts_a_start_short_and_leaves_nothing(bench: Bench, delay_s: float) -> None:
    """While it is launched, and while its readiness is waited for."""
    bench.launch.delay_s = delay_s

    async def main() -> None:
        process = bench.process(FOR_EVER, ready=log("never"))
        starting = asyncio.create_task(process.start())
        await asyncio.sleep(0.15)
        await process.stop()
        with pytest.raises(ProcessFailed, match="was stopped before it was ready"):
            await starting
        assert len(bench.launch.running) == (0 if delay_s else 1)
        assert process.status().state is State.GONE

    bench.run(main)
    assert bench.told == []


@pytest.mark.parametrize("delay_s", [0, 0.3])
@pytest.mark.parametrize("after_s", [0, 0.01, 0.15])
def test_a_cancelled_start_leaves_nothing(bench: Bench, delay_s: float, after_s: float) -> None:
    """INV-11."""
    bench.launch.delay_s = delay_s

    async def main() -> None:
        process = bench.process(FOR_EVER, ready=log("never"))
        starting = asyncio.create_task(process.start())
        await asyncio.sleep(after_s)
        starting.cancel()
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert process.status().state in (State.GONE, State.PENDING)
        assert all(running.is_gone for running in bench.launch.running)

    bench.run(main)
    assert bench.told == []


def test_a_stop_goes_on_when_its_caller_is_cancelled(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process(
            "trap 'sleep 0.2; exit 7' TERM; echo up; sleep 9 & wait", ready=log("up")
        )
        await process.start()
        stopping = asyncio.create_task(process.stop())
        await asyncio.sleep(0.05)
        stopping.cancel()
        assert await process.wait() == Exit(7, None)

    bench.run(main)


def test_a_stop_ends_the_wait_for_a_restart(bench: Bench) -> None:
    slow = RestartPolicy(delay_s=1000, delay_max_s=1000)

    async def main() -> None:
        process = bench.process("exit 1", restart=slow)
        await process.start()
        await until(lambda: process.status().next_start is not None)
        status = process.status()
        assert status.state is State.PENDING
        assert status.next_start is not None
        assert 800 < status.next_start - time.time() <= 1000
        assert "back-off" in status.reason
        process.check_health()
        assert (await process.stop()).rung == "already"
        assert process.status().starts == 1

    bench.run(main)
    assert bench.told == []


def test_a_stop_before_the_start_makes_the_start_fail(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process(FOR_EVER)
        assert (await process.stop()).rung == "already"
        with pytest.raises(ProcessFailed, match="was stopped"):
            await process.start()
        assert await process.wait() is None

    bench.run(main)
    assert bench.launch.launches == []


def test_a_signal_reaches_the_process_while_it_runs(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process(
            "trap 'echo heard' USR1; echo up; while :; do sleep 0.02; done", ready=log("up")
        )
        with pytest.raises(PoolError, match="does not run now"):
            process.signal(signal.SIGUSR1)
        await process.start()
        process.signal(signal.SIGUSR1)
        await until(lambda: "heard" in bench.log.read_text())
        await process.stop()

    bench.run(main)


def test_the_end_of_the_loop_is_the_end_of_the_process(bench: Bench) -> None:
    async def main() -> None:
        process = bench.process(FOR_EVER)
        await process.start()

    asyncio.run(main())
    [running] = bench.launch.running
    assert not find(running.marker)
    assert not is_alive(running.warden)


def test_a_probe_that_outlives_its_cancellation_holds_nothing_up(bench: Bench) -> None:
    over = asyncio.Event()

    class Stubborn(Probe):
        async def check(self, site: Site, within_s: float) -> str:
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    continue
            return ""

    async def main() -> None:
        process = bench.process("sleep 0.1; exit 1", ready=Stubborn())
        with pytest.raises(ProcessFailed, match="exit code 1"):
            await process.start()
        over.set()
        await asyncio.sleep(0.01)

    bench.run(main)


def test_what_the_callback_raises_harms_nobody(bench: Bench) -> None:
    heard: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, said: heard.append(said))

        def tell(cause: Cause, detail: str) -> None:
            raise ValueError(cause)

        process = bench.process("exit 1")
        process._on_failed = tell
        await process.start()
        assert await process.wait() == Exit(1, None)
        await asyncio.sleep(0)

    bench.run(main)
    assert [type(said["exception"]) for said in heard] == [ValueError]
