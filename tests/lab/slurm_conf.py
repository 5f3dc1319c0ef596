"""The files that a Slurm of the lab needs: configuration, devices, names and links."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NETWORK = "10.79.0"
CONTROLLER = f"{NETWORK}.254"
FREEZERS = Path("/sys/fs/cgroup/freezer")

_CONF = """\
ClusterName=lab
SlurmctldHost=ctl({controller})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job waits that long, and a second, before it is requeued; the default is two minutes.
AuthInfo=cred_expire=5
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd.%n
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
ProctrackType=proctrack/{tracking}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
SlurmdTimeout=10
MessageTimeout=10
TCPTimeout=2
# A site's setting: tasks that are left are killed that long after the first one's end.
WaitTime={wait_time_s}
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
JobRequeue=1
GresTypes=gpu
NodeName=DEFAULT CPUs={cpus} RealMemory=8000 {gres} State=UNKNOWN
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""
_CGROUPS = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=no
ConstrainRAMSpace=no
ConstrainDevices=no
"""


def address_of(node: str) -> str:
    """Return the address of a node by its name, which ends in its number."""
    return f"{NETWORK}.{node.rpartition('n')[2]}"


@dataclass(frozen=True)
class SlurmConf:
    """Write the files of a Slurm into `etc` of a folder.

    Args:
        folder: Where all files of the lab lie.
        nodes: Their names.
        cpus: CPUs of each.
        gpus: Devices of each.
        cgroups: Whether processes are tracked by cgroup.
        wait_time_s: `WaitTime`, which some sites set; 0 is Slurm's default, none.
    """

    folder: Path
    nodes: tuple[str, ...]
    cpus: int
    gpus: int
    cgroups: bool = False
    wait_time_s: int = 0

    @property
    def path(self) -> Path:
        """Where the configuration lies, for `SLURM_CONF`."""
        return self.folder / "etc" / "slurm.conf"

    def write(self) -> None:
        """Write all files, and make the folders that Slurm does not make."""
        for name in ("etc", "log", "state", "spool", "devices"):
            (self.folder / name).mkdir()
        etc = self.folder / "etc"
        (etc / "munge.key").touch(0o600)
        (etc / "munge.key").write_bytes(os.urandom(128))
        self.path.write_text(
            _CONF.format(
                controller=CONTROLLER,
                folder=self.folder,
                tracking="cgroup" if self.cgroups else "linuxproc",
                wait_time_s=self.wait_time_s,
                cpus=self.cpus,
                gres=f"Gres=gpu:{self.gpus}" if self.gpus else "",
                nodes=_lines(f"NodeName={name} NodeAddr={address_of(name)}" for name in self.nodes),
            )
        )
        if self.gpus:
            # Slurm takes a device for one that it counts only when there is a file of its name.
            for number in range(self.gpus):
                (self.folder / "devices" / f"nvidia{number}").symlink_to("/dev/null")
            files = f"{self.folder}/devices/nvidia[0-{self.gpus - 1}]"
            (etc / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={files}\n")
        if self.cgroups:
            (etc / "cgroup.conf").write_text(_CGROUPS)
        names = [("127.0.0.1", "localhost"), (CONTROLLER, "ctl")]
        names += [(address_of(name), name) for name in self.nodes]
        (etc / "hosts").write_text(_lines(f"{address} {name}" for address, name in names) + "\n")
        self._write_links(etc)

    def remove_cgroups(self) -> None:
        """Remove what slurmd made, once no process is in it: that tree is the whole machine's."""
        for name in self.nodes:
            for folder, _, _ in os.walk(FREEZERS / f"slurm_{name}", topdown=False):
                Path(folder).rmdir()

    def _write_links(self, etc: Path) -> None:
        batch = ["link add br0 up type bridge", f"address add {CONTROLLER}/24 dev br0"]
        for name in self.nodes:
            batch += [
                f"netns add {name}",
                f"link add v-{name} type veth peer name eth0 netns {name}",
                f"link set v-{name} master br0 up",
            ]
            inside = [
                "link set lo up",
                f"address add {address_of(name)}/24 dev eth0",
                "link set eth0 up",
                f"route add default via {CONTROLLER}",
            ]
            (etc / f"{name}.links").write_text(_lines(inside))
        (etc / "links").write_text(_lines(batch))


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
