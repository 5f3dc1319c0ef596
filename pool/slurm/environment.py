"""The environment of what runs in the job: cleaned of the launcher, and shown without secrets.

Pure. `srun` tells each task who it is among the tasks, and MPI libraries, PyTorch's launchers and
others believe it: a process of Ray that finds `PMI_RANK` thinks it is rank 0 of an MPI program. So
what describes *the task* goes, and what describes *the job* stays, as its end is read from there
(`pool.notices`) and users start job steps of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

KEY = "POOL_SLURM_KEY"
"""The secret of this run of the job. The batch script makes it; the nodes know each other by it."""

_LAUNCHER = re.compile(
    r"PMI_|PMI2_|PMIX_|OMPI_|PRTE_|ORTE_|MPI_|MPIR_|HYDRA_|HYDI_|I_MPI_|MV2_|PALS_|ALPS_|FLUX_"
)
_ABOUT_THE_TASK = re.compile(r"SLURM_|SLURMD_|SRUN_")
_ABOUT_THE_JOB = re.compile(
    r"SLURM_(?:JOB_.*|JOBID|ARRAY_.*|SUBMIT_.*|CLUSTER_NAME|CONF|RESTART_COUNT|WORKING_CLUSTER"
    r"|CPUS_ON_NODE|GPUS_ON_NODE|TOPOLOGY_ADDR.*)|SLURMD_NODENAME"
)
_OF_ANOTHER_RUN = frozenset(
    {
        "RAY_ADDRESS", "RAY_TMPDIR", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RANK", "LOCAL_RANK",
        "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", KEY,
    }
)  # fmt: skip

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|APIKEY|PRIVATE|AUTH(?!OR)|COOKIE|SIGNATURE"
    r"|SESSION_ID|(?:^|_)(?:KEY|PWD|PASS|PAT|DSN)(?:_|$)"
)
_NO_SECRET = frozenset({"PWD", "OLDPWD", "RAY_AUTH_MODE"})
_SECRET_VALUE = re.compile(
    r"(?<=://)[^/\s@]+(?=@)"  # whoever goes by an address: a name and a password, or a token
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # a JSON web token
    r"|(?<=\bBearer )\S+|(?<=\bBasic )\S+"
)
HIDDEN = "***"


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what the launcher says of the task."""
    return {name: value for name, value in environ.items() if not _is_dropped(name)}


def redact(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment as it can be shown: no secret by its name, nor by its looks."""
    return {name: redact_value(name, value) for name, value in sorted(environ.items())}


def redact_value(name: str, value: str) -> str:
    """Return one value as it can be shown."""
    upper = name.upper()
    if upper not in _NO_SECRET and _SECRET_NAME.search(upper):
        return HIDDEN
    return _SECRET_VALUE.sub(HIDDEN, value)


def _is_dropped(name: str) -> bool:
    if name in _OF_ANOTHER_RUN or _LAUNCHER.match(name):
        return True
    return bool(_ABOUT_THE_TASK.match(name)) and not _ABOUT_THE_JOB.fullmatch(name)


def devices_given(environ: Mapping[str, str]) -> int | None:
    """Return how many devices Slurm gave to this node; None if it says nothing of any."""
    for name in ("SLURM_GPUS_ON_NODE", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"):
        text = environ.get(name, "").strip()
        if not text or text == "NoDevFiles":
            continue
        if name == "SLURM_GPUS_ON_NODE" and text.isdecimal():
            return int(text)
        return sum(_count(part) for part in text.split(","))
    return None


def _count(part: str) -> int:
    first, dash, last = part.partition("-")
    if dash and first.isdecimal() and last.isdecimal():
        return int(last) - int(first) + 1
    return 1
