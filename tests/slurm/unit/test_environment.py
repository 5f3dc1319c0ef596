from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.slurm.environment import HIDDEN, KEY, clean, devices_given, redact


@pytest.mark.parametrize(
    "name",
    [
        "PMI_RANK", "PMIX_NAMESPACE", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_ID",
        "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS", "SLURM_CPU_BIND",
        "SLURM_MPI_TYPE", "SLURM_SRUN_COMM_HOST", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_TASK_PID",
        "RANK", "WORLD_SIZE", "MASTER_ADDR", "RAY_ADDRESS", KEY,
    ],
)  # fmt: skip
def test_what_describes_the_task_goes(name: str) -> None:
    assert clean({name: "1"}) == {}


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "HOME", "SLURM_JOB_ID", "SLURM_JOB_END_TIME", "SLURM_RESTART_COUNT",
        "SLURMD_NODENAME", "SLURM_SUBMIT_DIR", "CUDA_VISIBLE_DEVICES", "RAY_AUTH_MODE",
        "NCCL_DEBUG", "PYTHONPATH",
    ],
)  # fmt: skip
def test_what_describes_the_job_or_is_the_users_stays(name: str) -> None:
    assert clean({name: "1"}) == {name: "1"}


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "MY_PASSWD",
        "GITHUB_PAT", "SENTRY_DSN", "RAY_AUTH_TOKEN", "ssh_private", "X_CREDENTIALS", "A_KEY_B",
    ],
)  # fmt: skip
def test_secrets_are_not_shown(name: str) -> None:
    assert redact({name: "s3cret"}) == {name: HIDDEN}


def test_the_rest_is_shown_but_for_passwords_in_addresses() -> None:
    environ = {
        "PWD": "/shared/me",
        "KEYBOARD": "us",
        "AUTHOR": "me",
        "MONKEY": "x",
        "PROXY": "http://me:s3cret@host:80/x",
    }
    assert redact(environ) == {**environ, "PROXY": f"http://{HIDDEN}@host:80/x"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://t0ken@host/x", f"https://{HIDDEN}@host/x"),
        (
            "a=https://me:pw@h/ b=git+https://t0ken@h",
            f"a=https://{HIDDEN}@h/ b=git+https://{HIDDEN}@h",
        ),
        ("x eyJhbGciOi.eyJzdWIi-_.Sfl-Kx_w y", f"x {HIDDEN} y"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {HIDDEN}"),
        ("https://host/@me", "https://host/@me"),
        ("me@host", "me@host"),
    ],
)
def test_a_secret_in_a_value_is_not_shown(value: str, shown: str) -> None:
    assert redact({"OPTIONS": value}) == {"OPTIONS": shown}


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12)))
def test_cleaning_adds_nothing_and_is_done_once(environ: dict[str, str]) -> None:
    cleaned = clean(environ)
    assert cleaned.items() <= environ.items()
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({}, None),
        ({"SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "0"}, 4),
        ({"SLURM_JOB_GPUS": "0-3,6"}, 5),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1a-2b,GPU-3c"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, None),
    ],
)
def test_devices_are_counted_as_slurm_says_them(environ: dict[str, str], count: int | None) -> None:
    assert devices_given(environ) == count
