"""Wait until the memory of GPUs is free, before a successor starts on them.

A process that was killed holds its GPU's memory for a while: the driver tears a big one down for
seconds. A successor that starts meanwhile runs out of memory, and looks as if it were at fault. So
the driver is asked, through NVML, who holds memory, until nobody does.

What counts as free: no process but the neighbours that are named holds more than the slack, by the
driver's list of compute processes. Programs that only draw (a display server) hold memory for ever
and are not waited for. The list is what says who, and it does not count what the driver reserves
for itself. In a container the driver names no process outside of it. So there, and only there, the
amount in use counts as well, without the driver's reserve and without what the list explains: it
says that somebody holds memory, and not who. Elsewhere it is left alone, since some machines (Grace
Hopper) lend the memory of the GPU to the system, and it is never all free.

Limits: NVIDIA's devices only. Without NVML (no `nvidia-ml-py`, no driver), or where it cannot
answer, nothing is waited for: a check that could not be made is no verdict (INV-9). Devices that
several workers share are never free; name the others' processes, or do not wait.

Why not the amount in use alone: it names nobody, and no amount is right for every machine.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from pool.errors import ConfigError, DeviceHeld
from pool.log import Word, say

SLACK_BYTES = 256 << 20
"""Less than this is no obstacle: a bare context, or the server by which processes share a GPU."""

# The inode of the first pid namespace (PROC_PID_INIT_INO in Linux); others are containers.
_FIRST_NAMESPACE = 0xEFFFFFFC


@dataclass(frozen=True, slots=True)
class Holder:
    """Say who holds memory of a device.

    Args:
        device: The device's id, as it was asked for.
        pid: The process; None where the driver does not say.
        name: What the process is called; "" where nobody says.
        used: Bytes; None where the driver does not say.
    """

    device: str
    pid: int | None
    name: str
    used: int | None

    def __str__(self) -> str:
        amount = "memory" if self.used is None else f"{self.used / (1 << 30):.2f} GiB"
        if self.pid is None:
            return f"somebody outside this container holds {amount} of device {self.device}"
        name = f" ({self.name})" if self.name else ""
        return f"process {self.pid}{name} holds {amount} of device {self.device}"


async def wait_free(
    devices: Sequence[str | int],
    limit_s: float,
    *,
    neighbours: Collection[int] = (),
    slack_bytes: int = SLACK_BYTES,
    period_s: float = 0.5,
    nvml: Any = None,
) -> None:
    """Wait until the memory of NVIDIA devices is free; see this module for what that means.

    Args:
        devices: Indices, GPU UUIDs (or what a UUID begins with) or MIG UUIDs, as
            `CUDA_VISIBLE_DEVICES` holds them.
        limit_s: Seconds to wait; more than 0.
        neighbours: Processes whose memory does not count, since they are to stay.
        slack_bytes: How much a process may hold.
        period_s: Seconds between two looks.
        nvml: The module `pynvml`, or what stands for it; imported when left out.

    Raises:
        DeviceHeld: Somebody still holds memory after `limit_s` seconds.
        ConfigError: `limit_s` or `period_s` is not more than 0.

    A cancellation comes at once; a look that is under way ends in its thread.
    """
    for field, value in (("limit_s", limit_s), ("period_s", period_s)):
        if not value > 0:
            raise ConfigError(f"{field} is {value!r}; give more than 0 seconds", field)
    if not devices:
        return
    look = functools.partial(
        holders, [str(device) for device in devices], neighbours, slack_bytes, nvml=nvml
    )
    seen: list[Holder] | None = None
    with anyio.move_on_after(limit_s):
        while True:
            seen = await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
            if not seen:
                return
            await anyio.sleep(period_s)
    if seen is None:
        say(Word.DEVICES_UNKNOWN, device="all", reason=f"no answer within {limit_s:g} s")
        return
    raise DeviceHeld(limit_s, [str(holder) for holder in seen])


def holders(
    devices: Sequence[str],
    neighbours: Collection[int] = (),
    slack_bytes: int = SLACK_BYTES,
    *,
    nvml: Any = None,
    in_container: bool | None = None,
) -> list[Holder]:
    """Return who holds memory of devices now. It blocks while the driver answers.

    Args:
        devices: Their ids; see `wait_free`.
        neighbours: Processes that do not count.
        slack_bytes: How much a process may hold.
        nvml: The module `pynvml`, or what stands for it; imported when left out.
        in_container: Whether processes may be hidden; found out when left out.

    Returns:
        Nobody where NVML is not there, or cannot answer.
    """
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return []
    if in_container is None:
        in_container = _is_in_container()
    found: list[Holder] = []
    with _opened(nvml) as is_open:
        for device in devices if is_open else ():
            try:
                handle = _handle(nvml, device)
                found += _holders_of(nvml, handle, device, neighbours, slack_bytes, in_container)
            except nvml.NVMLError as error:
                say(Word.DEVICES_UNKNOWN, device=device, reason=str(error))
    return found


@contextmanager
def _opened(nvml: Any) -> Iterator[bool]:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        yield False  # No driver: a node without such devices.
        return
    try:
        yield True
    finally:
        nvml.nvmlShutdown()


def _handle(nvml: Any, device: str) -> Any:
    if device.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(device))
    try:
        return nvml.nvmlDeviceGetHandleByUUID(device)
    except nvml.NVMLError:
        # CUDA takes the beginning of a UUID, if only one GPU's begins so; NVML does not.
        all_of_them = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        fitting = [each for each in all_of_them if _uuid(nvml, each).startswith(device)]
        if len(fitting) != 1:
            raise
        return fitting[0]


def _uuid(nvml: Any, handle: Any) -> str:
    uuid = nvml.nvmlDeviceGetUUID(handle)
    return uuid.decode() if isinstance(uuid, bytes) else str(uuid)


def _holders_of(
    nvml: Any,
    handle: Any,
    device: str,
    neighbours: Collection[int],
    slack_bytes: int,
    in_container: bool,
) -> list[Holder]:
    computing = {
        **_processes(nvml, "nvmlDeviceGetMPSComputeRunningProcesses", handle),
        **_processes(nvml, "nvmlDeviceGetComputeRunningProcesses", handle),
    }
    found = [
        Holder(device, pid, _name(pid), used)
        for pid, used in computing.items()
        # An amount that is not told is not known to be small.
        if pid not in neighbours and (used is None or used > slack_bytes)
    ]
    if found or not in_container:
        return found
    drawing = _processes(nvml, "nvmlDeviceGetGraphicsRunningProcesses", handle)
    explained = sum(used or 0 for used in (drawing | computing).values())
    unexplained = _used(nvml, handle) - explained
    if unexplained > slack_bytes and not any(used is None for used in computing.values()):
        return [Holder(device, None, "", unexplained)]
    return []


def _processes(nvml: Any, function: str, handle: Any) -> dict[int, int | None]:
    try:
        listed = getattr(nvml, function)(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission):
        return {}
    used: dict[int, int | None] = {}
    for process in listed:
        # A GPU in MIG mode lists a process once for each of its instances.
        before = used.get(process.pid, 0)
        now = process.usedGpuMemory
        used[process.pid] = None if before is None or now is None else before + now
    return used


def _used(nvml: Any, handle: Any) -> int:
    try:
        # NB: only this version counts the driver's reserve apart from what is used.
        return int(nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2).used)
    except nvml.NVMLError:
        return 0


def _name(pid: int) -> str:
    # NB: not the command line, which may hold secrets.
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _is_in_container() -> bool:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino != _FIRST_NAMESPACE
    except OSError:
        return os.getpid() == 1
