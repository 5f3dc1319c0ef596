"""A fake of what a process sees of Slurm: variables, and the commands that ask its controller."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

_SCRIPT = """#!/bin/sh
echo "$(basename "$0") $*" >> '{folder}/asked'
[ -e '{folder}/broken' ] && {{ echo 'error: Unable to contact slurm controller' >&2; exit 1; }}
end=$(cat '{folder}/end')
if [ "$SLURM_TIME_FORMAT" != %s ] || [ -e '{folder}/old' ]; then
    [ "$end" = N/A ] || end=$(date -d "@$end" +%Y-%m-%dT%H:%M:%S)
fi
case $(basename "$0") in
    squeue) echo "$end" ;;
    scontrol) echo "JobId={job} JobState=RUNNING StartTime=0 EndTime=$end Deadline=N/A" ;;
esac
"""


class FakeSlurm:
    """Write `squeue` and `scontrol` into a folder, for the front of a PATH.

    Args:
        folder: An empty folder.
        job: The job's id.
        lasts_s: Seconds from now to the job's end.
    """

    def __init__(self, folder: Path, job: str = "4711", lasts_s: float = 3600.0) -> None:
        self.folder = Path(folder)
        self.job = job
        self._began = int(time.time())
        self.launched_end = self._began + int(lasts_s)
        self.move_end(lasts_s)
        for name in ("squeue", "scontrol"):
            path = self.folder / name
            path.write_text(_SCRIPT.format(folder=self.folder, job=job))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def environ(self) -> dict[str, str]:
        """The variables of a step of the job, with the commands on its PATH."""
        return {
            "SLURM_JOB_ID": self.job,
            "SLURM_JOB_START_TIME": str(self._began),
            "SLURM_JOB_END_TIME": str(self.launched_end),
            "PATH": f"{self.folder}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    @property
    def asked(self) -> list[str]:
        """The commands that were run."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def move_end(self, in_s: float | None) -> None:
        """Let the job end at another time, as `scontrol update` does; None for no limit."""
        end = "N/A" if in_s is None else str(int(time.time() + in_s))
        (self.folder / "end").write_text(end)

    def be_old(self) -> None:
        """Print local times, whatever SLURM_TIME_FORMAT says."""
        (self.folder / "old").touch()

    def break_down(self, broken: bool = True) -> None:
        """Let the controller be out of reach, or back."""
        path = self.folder / "broken"
        path.touch() if broken else path.unlink(missing_ok=True)
