"""A real Slurm on one machine: each node has an address, processes and a /tmp of its own.

One private network, mount and process namespace holds slurmctld, munged and the login node; within
it each node has namespaces of its own, joined by a bridge without uplink. As with the lab of Ray
nodes (`tests.lab.namespaces`), the kernel ends all of it when the first process ends, and that one
ends with the thread that opened the lab: no socket, mount, link or process is ever seen outside.

All nodes share the machine's files except `/tmp`, `/run` and `/dev/shm`. What lies in `folder` is
seen by all of them under one path, as on a shared file system. Debian's packages are enough:
slurm-wlm and munge. What this Slurm has not: accounting (`sacct`), PMIx, containers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.lab.kernel import (
    APART,
    DIE_WITH_US,
    FIRST_PROCESS,
    inner_pid,
    namespace_of,
    processes_in,
    until,
)
from tests.lab.namespaces import ROOT, lab_is_possible
from tests.lab.slurm_conf import FREEZERS, SlurmConf

PROGRAMS = ("munged", "sbatch", "scontrol", "sdiag", "sinfo", "slurmctld", "slurmd", "srun")
LOGIN = "ctl"
"""Where jobs are submitted from, and the controller runs."""
PATIENCE_S = 30.0
"""How long Slurm may take to come up, or to say that a node is idle."""
COMMAND_S = 120.0
"""How long a command may take that somebody waits for."""

_APART = (*APART, "--uts")
_NODE = tuple(each for each in _APART if each != "--net")
_SET_UP = """
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/munge /run/netns
cp "$1/etc/munge.key" /run/munge/key
hostname ctl
mount --bind "$1/etc/hosts" /etc/hosts
ip -batch "$1/etc/links"
for name in $2; do ip -n "$name" -batch "$1/etc/$name.links"; done
"""
_MUNGED = (
    *("munged", "--foreground", "--force"),
    *(f"--{kind}-file=/run/munge/{kind}" for kind in ("key", "log", "pid", "seed")),
)
# Mounted over /tmp, the node's own hides what lies there and is shared: that is mounted again.
_FIRST_OF_A_NODE = f"""
set -e
hostname "$1"
own=$2
shift 2
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
number=0
for path in "$@"; do
    number=$((number + 1))
    mkdir -p "/run/$(hostname)/$number"
    mount --bind "$path" "/run/$(hostname)/$number"
done
mount --bind "$own" /tmp
number=0
for path in "$@"; do
    number=$((number + 1))
    mkdir -p "$path"
    mount --bind "/run/$(hostname)/$number" "$path"
done
{FIRST_PROCESS}
"""


def slurm_is_possible() -> str | None:
    """Return why no Slurm can be had here, or None."""
    for program in PROGRAMS:
        if shutil.which(program, path=_path()) is None:
            return f"a Slurm of the lab needs `{program}` (Debian's slurm-wlm and munge)"
    return lab_is_possible()


def cgroups_are_possible() -> str | None:
    """Return why no Slurm here can track processes by cgroup, or None."""
    tried = FREEZERS / f"tried-{os.getpid()}"
    try:
        tried.mkdir()
        tried.rmdir()
    except OSError as trouble:
        return f"a Slurm of the lab that tracks by cgroup needs the first version's: {trouble}"
    return None


class SlurmLab:
    """Run a controller and some nodes of a real Slurm, each in its own namespaces.

    Args:
        nodes: How many nodes: n1, n2 and so on; with cgroups, something stands before the n.
        cpus: CPUs of each, as Slurm believes.
        gpus: Generic resources `gpu` of each, with /dev/null for a device.
        cgroups: Whether Slurm tracks a job's processes by cgroup. Without, as in a site that has
            `ProctrackType=proctrack/linuxproc`, what becomes a daemon is not Slurm's to end.
        wait_time_s: `WaitTime`, which some sites set.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        cpus: int = 16,
        gpus: int = 8,
        cgroups: bool = False,
        wait_time_s: int = 0,
    ) -> None:
        # Folders of cgroups are named for nodes, and not to be shared with another lab's.
        prefix = f"p{os.getpid()}n" if cgroups else "n"
        self.nodes = tuple(f"{prefix}{number}" for number in range(1, nodes + 1))
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self._conf = SlurmConf(self.folder, self.nodes, cpus, gpus, cgroups, wait_time_s)
        self._started: list[subprocess.Popen[bytes]] = []
        self._network: dict[str, str] = {}
        self._first: subprocess.Popen[bytes] | None = None
        self._first_pids: dict[str, int] = {}
        self._inside: dict[str, str] = {}

    # -- from the first process to the last -----------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._make_namespaces()
            self._start_daemons()
            self._start_nodes()
            self.await_idle()
        except BaseException:
            for log in sorted((self.folder / "log").glob("*")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the lab, and check that none is left."""
        if self._first is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first_pids.get(LOGIN, self._first.pid), signal.SIGKILL)
            self._first.wait(PATIENCE_S)
            self._first = None
        for started in self._started:
            started.wait(PATIENCE_S)
        left = [each for name in self._inside for each in self.processes(name)]
        assert not left, f"the lab left {left}"
        self._conf.remove_cgroups()
        shutil.rmtree(self.folder)

    def _make_namespaces(self) -> None:
        self._conf.write()
        # `unshare` complains when its child is killed, which is how every lab ends.
        self._first = subprocess.Popen(
            [*DIE_WITH_US, *_APART, "sh", "-c", FIRST_PROCESS],
            start_new_session=True,  # Ctrl-C is for the tests, which then close the lab
            stderr=subprocess.DEVNULL,
        )
        until(self._is_apart, "no first process", PATIENCE_S)
        names = " ".join(self.nodes)
        self.run("sh", "-ec", _SET_UP, "sh", str(self.folder), names)
        numbers = self.run("stat", "-L", "-c", "%i", *(f"/run/netns/{name}" for name in self.nodes))
        for name, number in zip(self.nodes, numbers.split(), strict=True):
            self._network[name] = f"net:[{number}]"

    def _is_apart(self) -> bool:
        assert self._first is not None
        ours = psutil.Process(self._first.pid).children()
        network = namespace_of(ours[0].pid) if ours else None
        if network is None or network == namespace_of(os.getpid()):
            return False
        self._network[LOGIN] = network
        self._note_first(LOGIN, ours[0].pid)
        return True

    def _note_first(self, node: str, pid: int) -> None:
        self._first_pids[node] = pid
        self._inside[node] = str(namespace_of(pid, "pid"))

    def _start_daemons(self) -> None:
        self._start(LOGIN, "munged", *_MUNGED)
        # The controller ends when it finds no munged.
        until(lambda: self.ask("munge", "-n").returncode == 0, "no munged", PATIENCE_S)
        self._start(LOGIN, "slurmctld.out", "slurmctld", "-D")
        # A node that finds no controller waits long before it tries again.
        until(lambda: self.ask("scontrol", "ping").returncode == 0, "no slurmctld", PATIENCE_S)

    def _start_nodes(self) -> None:
        kept = {self.folder, ROOT, Path(sys.prefix), Path(sys.base_prefix)}
        shared = [str(path) for path in sorted(kept) if path.is_relative_to("/tmp")]
        for name in self.nodes:
            own = self.tmp_of(name)
            own.mkdir(parents=True)
            own.chmod(0o1777)
            first = ("sh", "-c", _FIRST_OF_A_NODE, "sh", name, str(own), *shared)
            enter = ("nsenter", f"--net=/run/netns/{name}")
            self._start(LOGIN, f"{name}.out", *enter, *_NODE, *first)
        until(self._see_nodes, "a node has no first process", PATIENCE_S)
        for name in self.nodes:
            self.start_slurmd(name)

    def _see_nodes(self) -> bool:
        """Note each node's first process, once its script is through."""
        names = {network: name for name, network in self._network.items()}
        for process in psutil.process_iter():
            name = names.get(namespace_of(process.pid) or "")
            if name is not None and name not in self._first_pids:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if inner_pid(process.pid) == 1 and process.name() == "sleep":
                        self._note_first(name, process.pid)
        return len(self._first_pids) == len(self._network)

    # -- what runs in it ------------------------------------------------------------------------

    def line(self, node: str, *command: str) -> list[str]:
        """Return the command line that runs a command on a node, in the folder one is in."""
        places = ("--net", "--mount", "--uts", "--pid", f"--wdns={Path.cwd()}")
        return [*DIE_WITH_US, "nsenter", f"--target={self._first_pids[node]}", *places, *command]

    def environment(self) -> dict[str, str]:
        """Return the environment of whoever works on a node."""
        quiet = {
            "PATH": _path(),
            "PYTHONPATH": str(ROOT),
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "SLURM_CONF": str(self._conf.path),
        }
        return os.environ | quiet

    def ask(
        self, *command: str, node: str = LOGIN, environment: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, and return how it ended."""
        return subprocess.run(
            self.line(node, *command),
            check=False,
            capture_output=True,
            env={**self.environment(), **environment},
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=COMMAND_S,
        )

    def run(self, *command: str, node: str = LOGIN, environment: Mapping[str, str] = {}) -> str:
        """Run a command that has to succeed, and return what it printed."""
        done = self.ask(*command, node=node, environment=environment)
        assert not done.returncode, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def _start(self, node: str, log: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log" / log).open("ab") as output:
            started = subprocess.Popen(
                self.line(node, *command),
                env=self.environment(),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._started.append(started)
        return started

    def await_idle(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until every node can take a job."""

        def all_idle() -> bool:
            listed = self.ask("sinfo", "-h", "-N", "-o", "%N %t").stdout.split("\n")
            return sorted(filter(None, listed)) == sorted(f"{name} idle" for name in self.nodes)

        until(all_idle, "not every node is idle", patience_s)

    def tmp_of(self, node: str) -> Path:
        """Return where a node's /tmp is to be seen from everywhere."""
        return self.folder / "nodes" / node

    # -- faults ---------------------------------------------------------------------------------

    def start_slurmd(self, node: str) -> None:
        """Start a node's slurmd, at first or again."""
        self._start(node, f"{node}.slurmd", "slurmd", "-D", "-N", node)

    def kill_slurmd(self, node: str) -> None:
        """Kill a node's slurmd; what it had started lives on."""
        # A child that is to become a step bears the same name for a moment.
        slurmds = [each for each in self.processes(node) if each.name() == "slurmd"]
        min(slurmds, key=lambda each: each.create_time()).kill()

    def hide(self, node: str, path: Path) -> None:
        """Have a folder be empty on one node, as when it is not shared with that node."""
        self.run("mount", "-t", "tmpfs", "tmpfs", str(path), node=node)

    def show(self, node: str, path: Path) -> None:
        """Show the folder again that was hidden."""
        self.run("umount", str(path), node=node)

    # -- what is to be seen from outside ----------------------------------------------------------

    def processes(self, node: str) -> list[psutil.Process]:
        """List the processes that run on a node."""
        return processes_in(self._inside[node])

    def strangers(self, node: str) -> list[str]:
        """Describe the processes on a node that are neither the lab's nor Slurm's."""
        found = []
        for process in self._strange(node):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
        return found

    def find(self, node: str, words: str) -> list[psutil.Process]:
        """Return the processes on a node whose command line has some words, the oldest first."""
        found = []
        for process in self._strange(node):
            with contextlib.suppress(psutil.NoSuchProcess):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def end_strangers(self) -> None:
        """Kill whatever runs on the nodes that is neither the lab's nor Slurm's."""
        for node in self.nodes:
            for process in self._strange(node):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def _strange(self, node: str) -> Iterator[psutil.Process]:
        for process in self.processes(node):
            with contextlib.suppress(psutil.NoSuchProcess):
                is_first = process.pid == self._first_pids[node]
                is_ended = process.status() == psutil.STATUS_ZOMBIE
                if not (is_first or is_ended or process.name() in {"slurmd", "slurmstepd"}):
                    yield process

    def process(self, node: str, pid: int) -> psutil.Process:
        """Return the process that is called `pid` on a node; here it has another number."""
        [found] = [process for process in self.processes(node) if inner_pid(process.pid) == pid]
        return found


def _path() -> str:
    # Debian's daemons lie in /usr/sbin, which is not on everybody's path.
    return os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"], "/usr/sbin"])
