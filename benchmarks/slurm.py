"""What it costs to bring Ray up on Slurm: `pool slurm`, `ray symmetric-run`, a plain script.

Run it with `python -m benchmarks.slurm`, or `--quick` to see only that it runs. It has a Slurm of
its own on this machine (`tests.lab.slurm`), and needs root and Debian's slurm-wlm and munge; where
it cannot have that it says so and ends. All nodes share this machine's cores, so that the times
grow with the number of nodes, as they would not elsewhere; what can be compared is the contestants.
With 32 nodes a stub stands for Ray, whose raylets would need some 12 GB.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.harness import WIDTH, Measured, report
from benchmarks.slurm_jobs import Order
from tests.lab.jobs import Jobs
from tests.lab.slurm import SlurmLab, slurm_is_possible

OURS, SYMMETRIC, PLAIN = "pool slurm", "ray symmetric-run", "plain script"
END_S = 2.0
"""The goal for the time from the driver's end to the job's."""
JOB_S = 900.0
"""How long a job may take on busy cores."""
NOT_THE_JOBS = frozenset(
    {"MESSAGE_EPILOG_COMPLETE", "MESSAGE_NODE_REGISTRATION_STATUS", "REQUEST_STATS_INFO"}
)
"""What nodes say to the controller by themselves, and the question for these numbers."""

# Notes each call of `srun`, and when it was made.
_SHIM = """\
#!/bin/sh
date +%s.%N >>{calls}
exec /usr/bin/srun "$@"
"""


@dataclass(frozen=True)
class Took:
    """What one job was seen to do.

    Args:
        start_s: From the first `srun` to the driver's first line.
        end_s: From the driver's last line to the job's end, as the controller notes it.
        sruns: Calls of `srun`.
        requests: What the controller was asked, by type, from `sbatch` to the job's end.
        left: Processes on the nodes two seconds after that; what nobody ended.
        load: The machine's load at the end: other work makes it slower.
    """

    start_s: float
    end_s: float
    sruns: int
    requests: dict[str, int]
    left: int
    load: float


@dataclass
class Course:
    """A Slurm of some nodes, and the jobs that are run on it.

    Args:
        lab: The Slurm.
        is_real: Whether Ray is, too.
    """

    lab: SlurmLab
    is_real: bool
    took: dict[str, list[Took]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.lab)
        self.bin = self.lab.folder / "bin"
        self.bin.mkdir()
        self.calls = self.lab.folder / "sruns"
        self._write("srun", _SHIM.format(calls=self.calls))
        # Programs beside each other, as in an environment: `pool slurm` takes `ray` from there.
        stub = Path(__file__).parents[1] / "tests" / "lab" / "ray_stub.py"
        ray = [str(Path(sys.executable).with_name("ray"))]
        program = ray if self.is_real else [sys.executable, "-S", str(stub)]
        self._write("ray", f'#!/bin/sh\nexec {" ".join(program)} "$@"\n')
        self._write("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        self.order = Order(len(self.lab.nodes), self.lab.folder, self.bin / "python", self.is_real)

    def _write(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, name: str) -> None:
        """Run one contestant's job to its end, and note what it took."""
        self.order.write_driver()
        self.calls.unlink(missing_ok=True)
        self.jobs.forget_requests()
        job = self._submit(name)
        # The controller's log is read, and not asked for: asking would be counted.
        ended_at = self._await_end(job)
        requests = self.jobs.requests()
        said = json.loads((self.lab.folder / "driver.json").read_text())
        assert said["alive"] in (None, self.order.nodes), said
        calls = [float(line) for line in self.calls.read_text().split()]
        time.sleep(max(0.0, ended_at + END_S - time.time()))
        left = sum(len(self.lab.strangers(node)) for node in self.lab.nodes)
        took = Took(
            start_s=said["began"] - calls[0],
            end_s=ended_at - said["ended"],
            sruns=len(calls),
            requests=requests,
            left=left,
            load=round(os.getloadavg()[0], 1),
        )
        self.took.setdefault(name, []).append(took)
        self._clean_up()

    def _submit(self, name: str) -> str:
        search = {
            "PATH": os.pathsep.join([str(self.bin), self.lab.environment()["PATH"]]),
            "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT": str(JOB_S),
        }
        if name == OURS:
            file = self.lab.folder / "ours.toml"
            file.write_text(self.order.ours())
            return self.lab.run("pool", "slurm", "submit", str(file), environment=search).strip()
        script = self.order.plain() if name == PLAIN else self.order.symmetric()
        return self.jobs.submit(script, environment=search)

    def _await_end(self, job: str) -> float:
        self.jobs.until(lambda: self.jobs.noted_end(job) is not None, self._logs, JOB_S)
        return self.jobs.noted_end(job) or 0.0

    def _logs(self) -> str:
        folder = self.lab.folder
        paths = [*folder.glob("*.out"), *folder.glob("ours/*.out"), *folder.glob("ours/*/logs/*")]
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted(paths))

    def _clean_up(self) -> None:
        """Remove what a contestant has left, so that the next begins where it did."""
        self.lab.end_strangers()
        self.jobs.cancel_all()
        self.lab.await_idle(patience_s=120)


def measure(nodes: int, rounds: int, *, is_real: bool) -> dict[str, list[Took]]:
    """Run all contestants in turn. All rounds count: each takes minutes."""
    names = [PLAIN, SYMMETRIC, OURS] if is_real else [PLAIN, OURS]
    with SlurmLab(nodes=nodes) as lab:
        course = Course(lab, is_real)
        for number in range(rounds):
            for name in names:
                course.run(name)
                print(f"{nodes} nodes, round {number}, {name}: {course.took[name][-1]}", flush=True)
    return course.took


def rows(nodes: int, took: dict[str, list[Took]]) -> list[Measured]:
    """Return the rows of the table for one number of nodes."""
    found: list[Measured] = []
    each: Sequence[tuple[str, Callable[[Took], float]]] = (
        ("first srun to driver", lambda one: one.start_s),
        ("driver's end to job's end", lambda one: one.end_s),
    )
    for what, of in each:
        plain = Measured(f"{nodes} nodes, {what}: {PLAIN}", None, [of(t) for t in took[PLAIN]])
        for name in (OURS, SYMMETRIC):
            if name in took:
                rounds_s = [of(one) for one in took[name]]
                row = Measured(f"{nodes} nodes, {what}: {name}", None, rounds_s, plain)
                if what.startswith("driver") and name == OURS:
                    row.goal_s = END_S
                elif name == OURS:
                    row.goal_ratio = 1.0
                found.append(row)
        found.append(plain)
    return found


def main(courses: Sequence[tuple[int, int, bool]]) -> None:
    """Measure and report.

    Args:
        courses: Numbers of nodes and of rounds, and whether Ray is the real one.
    """
    trouble = slurm_is_possible()
    if trouble is not None:
        print(f"benchmarks.slurm is left out: {trouble}")
        return
    measured: list[Measured] = []
    counts: dict[str, dict[str, object]] = {}
    table = Table(title="What Slurm was asked")
    for column in ("nodes", "what", "sruns", "requests", "processes left"):
        table.add_column(column, justify="right")
    for nodes, rounds, is_real in courses:
        took = measure(nodes, rounds, is_real=is_real)
        measured += rows(nodes, took)
        for name, all_of_it in took.items():
            last = all_of_it[-1]
            asked = {kind: n for kind, n in last.requests.items() if kind not in NOT_THE_JOBS}
            cells = (nodes, name, last.sruns, sum(asked.values()), last.left)
            table.add_row(*map(str, cells))
            counts[f"{nodes} nodes, {name}"] = {
                "sruns": last.sruns,
                "requests": last.requests,
                "processes_left": last.left,
                "loads": [one.load for one in all_of_it],
            }
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)
    report("Slurm", measured, asked=counts, rounds={str(n): r for n, r, _ in courses})


if __name__ == "__main__":
    if "--quick" in sys.argv:
        main([(3, 1, False)])
    else:
        main([(3, 2, True), (8, 1, True), (32, 2, False)])
