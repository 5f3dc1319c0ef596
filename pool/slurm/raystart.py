"""The arguments of `ray start`, and its environment. Pure.

`--block` always: the command then lives as long as Ray does on its node, so its end is the news.
And always a temporary folder of our own: Ray then notes no address that others on the node find,
and there is nothing of anybody else's in it that we could remove.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pool.slurm.job import SlurmJob
from pool.slurm.ports import Block

STARTED = "Ray runtime started"
"""What `ray start` says when the cluster has accepted the node."""


def ray_program(python: str) -> str:
    """Return the `ray` that belongs to a Python. No shell's `PATH` has a say in it."""
    return str(PurePosixPath(python).with_name("ray"))


def head(job: SlurmJob, python: str, address: str, block: Block, home: Path) -> list[str]:
    """Return how the head's Ray is started."""
    return [
        ray_program(python), "start", "--head", "--block", "--disable-usage-stats",
        f"--node-ip-address={address}",
        f"--port={block['gcs']}",
        f"--ray-client-server-port={block['client']}",
        f"--include-dashboard={job.include_dashboard}",
        f"--dashboard-port={block['dashboard']}",
        *_common(job, block, home),
        *_resources(job, is_bare=job.dedicated_head),
        *job.ray_head,
    ]  # fmt: skip


def worker(
    job: SlurmJob, python: str, address: str, gcs: str, block: Block, home: Path
) -> list[str]:
    """Return how Ray is started on another node."""
    return [
        ray_program(python), "start", "--block", "--disable-usage-stats",
        f"--address={gcs}",
        f"--node-ip-address={address}",
        *_common(job, block, home),
        *_resources(job, is_bare=False),
        *job.ray_worker,
    ]  # fmt: skip


def _common(job: SlurmJob, block: Block, home: Path) -> list[str]:
    store = job.object_store_bytes
    return [
        "--log-style=pretty",
        "--log-color=false",
        f"--temp-dir={home}",
        f"--node-manager-port={block['node_manager']}",
        f"--object-manager-port={block['object_manager']}",
        f"--runtime-env-agent-port={block['runtime_env_agent']}",
        f"--dashboard-agent-grpc-port={block['agent_grpc']}",
        f"--dashboard-agent-listen-port={block['agent_http']}",
        f"--metrics-export-port={block['metrics']}",
        f"--min-worker-port={block.worker_min}",
        f"--max-worker-port={block.worker_max}",
        *([f"--object-store-memory={store}"] if store else []),
    ]


def _resources(job: SlurmJob, *, is_bare: bool) -> list[str]:
    if is_bare:
        return ["--num-cpus=0", "--num-gpus=0"]
    return [
        *([f"--num-cpus={job.cpus}"] if job.cpus else []),
        *([f"--num-gpus={job.devices}"] if job.devices else []),
    ]
