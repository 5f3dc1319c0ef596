"""Several Ray nodes on one machine, each with an address of its own, and links that can be cut.

Each node lives in a network namespace; a bridge without uplink joins them. Everything is inside one
private network, mount and process namespace: the machine's own network is never touched, and when
the first process of the lab ends, the kernel ends all others and takes the links away. That first
process ends when the thread that opened the lab does, so that even `kill -9` leaves nothing.

`ray.cluster_utils.Cluster` starts several nodes too, but they all talk over one loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.lab.kernel import (
    APART,
    DIE_WITH_US,
    FIRST_PROCESS,
    PATIENCE_S,
    inner_pid,
    namespace_of,
    processes_in,
    until,
)

ROOT = Path(__file__).parents[2]
HEAD = 0
"""The node that runs the GCS and the drivers; it has no GPUs."""
PORT = 6379

_SET_UP = "ip link set lo up; mount -t tmpfs tmpfs /run; ip link add br0 up type bridge"
_LINK = "ip link add v0 type veth peer name eth0 netns"
# Sessions lie in /tmp/ray, where the nodes of one machine would find each other's sockets.
_ENTER = 'mount --bind "$1" /tmp/ray && cd "$2" && shift 2 && exec "$@"'


def lab_is_possible() -> str | None:
    """Return why no lab can be had here, or None: the one sure way to know is to try."""
    if os.geteuid() != 0:
        return "a lab of namespaces needs root"
    for program in ("ip", "mount", "nsenter", "setpriv", "unshare"):
        if shutil.which(program) is None:
            return f"a lab of namespaces needs `{program}` (packages iproute2 and util-linux)"
    tried = subprocess.run(
        [*APART, "sh", "-ec", f"{_SET_UP}; mkdir /run/netns; ip netns add n0; {_LINK} n0"],
        check=False,
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        return f"no namespaces can be made here: {tried.stderr.strip()}"
    return None


class Lab:
    """Run a head without GPUs and some nodes with logical ones, each in its own namespace.

    Args:
        nodes: How many nodes beside the head; they are counted from 1, the head is 0.
        gpus: Logical GPUs of each.
        system_config: Ray's internal settings, for the whole cluster.
    """

    def __init__(
        self, nodes: int = 3, gpus: int = 4, system_config: Mapping[str, Any] | None = None
    ) -> None:
        self.nodes = range(1, nodes + 1)
        self._gpus = gpus
        self._system_config = dict(system_config or {})
        self._folder = Path(tempfile.mkdtemp(prefix="lab-"))
        self._ray: dict[int, subprocess.Popen[bytes]] = {}
        self._drivers: list[subprocess.Popen[str]] = []
        self._network: dict[int, str] = {}
        self._harmed: set[int] = set()
        self._first: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where drivers connect to."""
        return f"{address_of(HEAD)}:{PORT}"

    # -- from the first process to the last -----------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._make_namespaces()
            # A node asks for the head until it is there, so that all can start at once.
            for node in (HEAD, *self.nodes):
                self._start_ray(node)
            for node in (HEAD, *self.nodes):
                self._await_ray(node)
        except BaseException:
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
                os.kill(self._first_pid(), signal.SIGKILL)
            self._first.wait(PATIENCE_S)
            self._first = None
        for ray in self._ray.values():
            ray.wait(PATIENCE_S)
        for driver in self._drivers:
            driver.wait(PATIENCE_S)
        left = [process for node in self._network for process in self.processes(node)]
        assert not left, f"the lab left {left}"
        shutil.rmtree(self._folder)

    def _make_namespaces(self) -> None:
        # `unshare` complains when its child is killed, which is how every lab ends.
        self._first = subprocess.Popen(
            [*DIE_WITH_US, *APART, "sh", "-c", FIRST_PROCESS], stderr=subprocess.DEVNULL
        )
        until(self._is_apart, "no first process")
        self._in_lab("sh", "-ec", f"{_SET_UP}; mkdir /run/netns")
        for node in (HEAD, *self.nodes):
            (self._folder / f"n{node}").mkdir()
            self._in_lab(
                *("sh", "-ec"),
                f"ip netns add n{node}; ip link add v{node} type veth peer name eth0 netns n{node};"
                f"ip link set v{node} master br0 up; ip -n n{node} link set lo up;"
                f"ip -n n{node} address add {address_of(node)}/24 dev eth0;"
                f"ip -n n{node} link set eth0 up",
            )
            [self._network[node]] = self._in_lab(
                "ip", "netns", "exec", f"n{node}", "readlink", "/proc/self/ns/net"
            ).split()
        Path("/tmp/ray").mkdir(exist_ok=True)

    def _is_apart(self) -> bool:
        assert self._first is not None
        ours = psutil.Process(self._first.pid).children()
        return bool(ours) and namespace_of(ours[0].pid) not in (None, namespace_of(os.getpid()))

    def _first_pid(self) -> int:
        assert self._first is not None
        [first] = psutil.Process(self._first.pid).children()
        return first.pid

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self._first_pid()}", "--net", "--mount", "--pid"]

    def _in_lab(self, *command: str) -> str:
        done = subprocess.run(
            [*self._enter(), *command], check=False, capture_output=True, text=True
        )
        assert not done.returncode, f"{command}: {done.stderr}"
        return done.stdout

    def _on(self, node: int, *command: str) -> list[str]:
        """Return the command line that runs a command on a node, and ends with whoever ran it."""
        place = (str(self._folder / f"n{node}"), str(ROOT))
        enter = ("ip", "netns", "exec", f"n{node}", "sh", "-c", _ENTER, "sh", *place)
        return [*DIE_WITH_US, *self._enter(), *DIE_WITH_US, *enter, *command]

    # -- Ray's processes ------------------------------------------------------------------------

    def _start_ray(self, node: int) -> None:
        ray = str(Path(sysconfig.get_path("scripts")) / "ray")
        if node == HEAD:
            place = ["--head", f"--port={PORT}", "--include-dashboard=false", "--num-gpus=0"]
            if self._system_config:
                place.append(f"--system-config={json.dumps(self._system_config)}")
        else:
            place = [f"--address={self.address}", f"--num-gpus={self._gpus}"]
        size = ("--num-cpus=8", f"--object-store-memory={100 * 1024 * 1024}")
        with self._log(node).open("wb") as log:
            self._ray[node] = subprocess.Popen(
                self._on(
                    node,
                    *(ray, "start", "--block", *place, *size),
                    f"--node-ip-address={address_of(node)}",
                ),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _await_ray(self, node: int) -> None:
        def is_up() -> bool:
            assert self._ray[node].poll() is None, self._log(node).read_text()
            return "Ray runtime started" in self._log(node).read_text()

        until(is_up, f"node {node} did not start")

    def _log(self, node: int) -> Path:
        return self._folder / f"n{node}.log"

    def run_driver(self, *args: str) -> subprocess.Popen[str]:
        """Start a Python process on the head, in the repository; it ends with the lab.

        Args:
            *args: Python's arguments. Standard input and output are pipes, for the caller to close.

        Returns:
            The process. NB: what ends it is `kill`; other signals do not reach into the lab.
        """
        driver = subprocess.Popen(
            self._on(HEAD, sys.executable, *args),
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._drivers.append(driver)
        return driver

    # -- faults ---------------------------------------------------------------------------------

    def cut(self, node: int) -> None:
        """Cut a node's link: packets vanish both ways, and nobody is told."""
        self._harmed.add(node)
        self._in_lab("ip", "link", "set", f"v{node}", "down")

    def heal(self, node: int) -> None:
        """Mend a node's link."""
        self._in_lab("ip", "link", "set", f"v{node}", "up")

    def kill_raylet(self, node: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a node's raylet."""
        self._harmed.add(node)
        [raylet] = [process for process in self.processes(node) if process.name() == "raylet"]
        raylet.send_signal(number)

    def power_off(self, node: int) -> None:
        """Cut a node's link, and end all that runs there."""
        self.cut(node)
        for process in self.processes(node):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def restore(self) -> None:
        """Mend every link, and put a new Ray node in the place of each that was harmed.

        A node that Ray declared dead ends by itself when its link is mended, but not at once.
        """
        harmed = sorted(self._harmed)
        for node in harmed:
            self.power_off(node)
            self._ray[node].wait(PATIENCE_S)
            self.heal(node)
            self._start_ray(node)
        for node in harmed:
            self._await_ray(node)
        self._harmed.clear()

    # -- what is to be seen from outside ----------------------------------------------------------

    def processes(self, node: int) -> list[psutil.Process]:
        """List the processes that run on a node."""
        return processes_in(self._network[node])

    def process(self, node: int, pid: int) -> psutil.Process:
        """Return the process that is called `pid` on a node; here it has another number."""
        [found] = [process for process in self.processes(node) if inner_pid(process.pid) == pid]
        return found


def address_of(node: int) -> str:
    """Return a node's address."""
    return f"10.78.0.{node + 1}"


def node_at(address: str) -> int:
    """Return the number of the node with an address."""
    return int(address.rpartition(".")[2]) - 1


def _environment() -> dict[str, str]:
    quiet = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONPATH": str(ROOT),
    }
    return os.environ | quiet
