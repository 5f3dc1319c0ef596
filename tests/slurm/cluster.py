"""Jobs of `pool slurm` on the lab's Slurm, submitted as a user does."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.lab.jobs import Jobs
from tests.lab.slurm import SlurmLab

STUB = Path(__file__).parents[1] / "lab" / "ray_stub.py"
SOON = {"silence_s": 5.0, "driver_grace_s": 2.0, "stop_grace_s": 0.5}
"""Patience for tests: the lab's Slurm kills five seconds after it has asked."""
_SHIM = """\
#!/bin/sh
echo "$@" >>{calls}
exec /usr/bin/srun "$@"
"""


class Cluster:
    """Submit and watch jobs of `pool slurm`.

    Args:
        lab: Where.
        folder: Where the jobs keep their files.
        is_real: Whether Ray is run, and not its stub.
    """

    def __init__(self, lab: SlurmLab, folder: Path, *, is_real: bool = False) -> None:
        self.lab = lab
        self.jobs = Jobs(lab)
        self.folder = folder
        self.directory = folder / "jobs"
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        self.directory.mkdir()
        self._calls = folder / "sruns"
        self._program("srun", _SHIM.format(calls=self._calls))
        ray = str(Path(sys.executable).with_name("ray"))
        program = ray if is_real else f"{sys.executable} -S {STUB}"
        self._program("ray", f'#!/bin/sh\nexec {program} "$@"\n')
        self._program("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')

    def _program(self, name: str, text: str) -> None:
        (self._bin / name).write_text(text)
        (self._bin / name).chmod(0o755)

    # -- what a user does -----------------------------------------------------------------------

    def pool(self, *words: str) -> CompletedProcess[str]:
        """Run `pool slurm` on the login node."""
        path = os.pathsep.join([str(self._bin), self.lab.environment()["PATH"]])
        program = (sys.executable, "-m", "pool.cli", "slurm", *words)
        return self.lab.ask(
            "sh",
            "-c",
            'cd "$0" && exec "$@"',
            str(self.folder),
            *program,
            environment={"PATH": path},
        )

    def file(self, driver: str | None = None, **given: Any) -> Path:
        """Write a job file.

        Args:
            driver: What the driver does, in Python; None for none.
            **given: Fields of the job, beside those that all tests have.
        """
        job: dict[str, Any] = {
            "name": "test",
            "nodes": len(self.lab.nodes),
            "directory": str(self.directory),
            "python": str(self._bin / "python"),
            "ray_logs": "never",
            "include_dashboard": False,
            "object_store_bytes": 100_000_000,
            **SOON,
            **given,
        }
        if driver is not None:
            script = self.folder / f"driver{len(list(self.folder.iterdir()))}.py"
            script.write_text(driver)
            job["command"] = [sys.executable, "-S", str(script)]
        path = self.folder / f"{job['name']}.toml"
        path.write_text(_toml(job))
        return path

    def submit(self, driver: str | None = None, **given: Any) -> str:
        """Submit a job, and return its number."""
        done = self.pool("submit", str(self.file(driver, **given)))
        assert not done.returncode, done.stderr
        return done.stdout.strip()

    # -- what is to be seen ---------------------------------------------------------------------

    def run_of(self, job: str, attempt: int = 0) -> Path:
        """Return the folder of a run of a job."""
        return self.directory / (f"{job}-r{attempt}" if attempt else job)

    def output(self, job: str) -> str:
        """Return what the job has printed."""
        return "".join(path.read_text() for path in self.directory.glob(f"*-{job}.out"))

    def logs(self, job: str, attempt: int = 0) -> dict[str, str]:
        """Return the logs of a run by name."""
        paths = (self.run_of(job, attempt) / "logs").glob("*.log")
        return {path.stem: path.read_text(errors="replace") for path in sorted(paths)}

    def status(self, job: str, attempt: int = 0) -> dict[str, Any]:
        """Return what a run has published; nothing while it has not."""
        path = self.run_of(job, attempt) / "status.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def srun_count(self) -> int:
        """Count the calls of `srun` by jobs."""
        return len(self._calls.read_text().splitlines()) if self._calls.exists() else 0

    def until(self, job: str, phase: str, attempt: int = 0) -> dict[str, Any]:
        """Wait until a run is in a phase, and return its status."""

        def is_there() -> bool:
            seen = self.status(job, attempt)
            assert not (seen.get("phase") == "ended" != phase), self.describe(job)
            return seen.get("phase") == phase

        self.jobs.until(is_there, lambda: self.describe(job))
        return self.status(job, attempt)

    def until_file(self, job: str, name: str) -> str:
        """Wait for a file that a driver writes into the tests' folder, and return what it says."""
        path = self.folder / name
        self.jobs.until(path.exists, lambda: self.describe(job))
        return path.read_text()

    def end(self, job: str) -> tuple[str, str]:
        """Wait for a job's end, and return its state and its exit status."""
        try:
            return self.jobs.status(job)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe(job)}") from None

    def describe(self, job: str) -> str:
        """Say all that is known of a job."""
        lines = [str(self.jobs.facts(job)), json.dumps(self.status(job)), self.output(job)]
        for name, text in self.logs(job).items():
            lines.append(f"--- {name}\n{text[-2000:]}")
        lines.append(f"left: {self.jobs.left()}")
        return "\n".join(lines)


def _toml(job: dict[str, Any]) -> str:
    """Return TOML: its strings, numbers and lists are JSON's."""
    plain = {name: value for name, value in job.items() if not isinstance(value, dict)}
    tables = {name: value for name, value in job.items() if isinstance(value, dict)}
    services = plain.pop("services", [])
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for service in services:
        lines += [
            "[[services]]",
            *(f"{name} = {json.dumps(value)}" for name, value in service.items()),
        ]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"
