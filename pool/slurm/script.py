"""The batch script: under forty lines, one `srun`, nothing to decide. Pure.

Whatever a shell has to get right it can get wrong: pipelines that lose a status, quoting, `kill`
of a number that is another process by now. So the shell makes one secret, runs `srun`, keeps what
that says of tasks (`deaths`), and returns the code that the head has left: `srun` returns the
greatest code of all tasks, and a node that was lost on the way is not how the job ended.

Of `srun`'s options three are there because a site's defaults differ: `--wait=0`, or the tasks that
are left are killed some time after the first has ended; `--kill-on-bad-exit=0`, or the loss of one
node ends a job that could go on; `--mpi=none`, or each task waits for an MPI program to begin. And
`--cpu-bind=none`: a task is a whole node, and not one core of it.
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from pool.slurm.deaths import FILE
from pool.slurm.environment import KEY
from pool.slurm.job import SlurmJob

LINES_MOST = 40
CODE_FILE = "exit-code"
STALE = (CODE_FILE, FILE, "head.json", "notice.json", "status.json")
"""What would be believed although it is of an earlier run: numbers of jobs begin anew at times."""
KEEP_WORDS = f"2> >(trap '' TERM INT HUP USR1 USR2; exec tee -a \"$run/{FILE}\" >&2) || code=$?"


def job_file(job: SlurmJob) -> PurePosixPath:
    """Return where the nodes read the job: its name is its content's, so it is never changed."""
    return PurePosixPath(job.directory) / "jobs" / f"{job.name}-{job.digest}.json"


def render(job: SlurmJob) -> str:
    """Return the batch script of a job whose paths are full (`SlurmJob.at`)."""
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in batch_options(job)),
            "# Made by `pool slurm`. All that is decided is decided in Python, on the nodes.",
            "set -euo pipefail",
            f"run={shlex.quote(job.directory)}/$SLURM_JOB_ID",
            "[[ ${SLURM_RESTART_COUNT:-0} == 0 ]] || run+=-r$SLURM_RESTART_COUNT",
            '(umask 077 && mkdir -p "$run")',
            f'rm -f "$run"/{{{",".join(STALE)}}}  # of another job that had this number',
            f"read -r {KEY} </proc/sys/kernel/random/uuid  # the nodes of this run know each other",
            f"export {KEY}",
            "trap : TERM INT HUP USR1 USR2  # the tasks get them too, and know what follows",
            "code=0",
            " \\\n  ".join([*_lines(srun(job)), KEEP_WORDS]),
            f'if [[ -r $run/{CODE_FILE} ]]; then read -r code <"$run/{CODE_FILE}"; fi',
            'exit "$code"',
            "",
        ]
    )


def batch_options(job: SlurmJob) -> list[str]:
    """Return the options of `sbatch`."""
    named = {
        "time": job.time,
        "partition": job.partition,
        "account": job.account,
        "qos": job.qos,
        "gres": job.asked_gres,
        "signal": job.signal,
    }
    return [
        f"--job-name={job.name}",
        f"--nodes={job.nodes}",
        "--ntasks-per-node=1",
        f"--output={job.directory}/{job.name}-%j.out",
        "--open-mode=append",
        f"--chdir={job.workdir}",
        *(f"--{name}={value}" for name, value in named.items() if value),
        "--requeue" if job.requeue != "never" else "--no-requeue",
        *(["--no-kill"] if job.least < job.nodes else []),
        *job.sbatch,
    ]


def srun(job: SlurmJob) -> list[str]:
    """Return the one `srun`."""
    calls = ",".join(map(str, job.ports.calls()))
    return [
        "srun",
        f"--nodes={job.nodes}",
        f"--ntasks={job.nodes}",
        "--ntasks-per-node=1",
        "--kill-on-bad-exit=0",
        "--wait=0",
        *(["--no-kill"] if job.least < job.nodes else []),
        "--mpi=none",
        "--cpu-bind=none",
        "--export=ALL",
        "--input=none",
        *job.srun,
        *job.container,
        job.python,
        "-m",
        "pool.slurm.node",
        f"--call={calls}",
        *([f"--head={job.head}"] if job.head else []),
        str(job_file(job)),
    ]


def _lines(words: list[str]) -> list[str]:
    """Fold the words into lines, each word quoted for the shell."""
    lines = [""]
    for word in map(shlex.quote, words):
        if lines[-1] and len(lines[-1]) + len(word) > 88:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines
