"""A stand-in for the module `pynvml`, as faithful as the functions that we call need.

Its names and what they raise and return are those of nvidia-ml-py 13; `test_device_memory.py`
compares the two where the real one is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class NVMLError(Exception):
    """Any error."""


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801 - the real name
    """There is no driver."""


class NVMLError_NotFound(NVMLError):  # noqa: N801
    """There is no such device."""


class NVMLError_InvalidArgument(NVMLError):  # noqa: N801
    """There is no such index."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801
    """The device cannot say."""


class NVMLError_NoPermission(NVMLError):  # noqa: N801
    """The caller may not know."""


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801
    """The device fell off the bus."""


@dataclass
class Process:
    """What NVML tells of a process."""

    pid: int
    usedGpuMemory: int | None  # noqa: N815


@dataclass
class Memory:
    """What NVML tells of a device's memory, second version."""

    used: int


@dataclass
class Device:
    """One device, or one instance of one."""

    uuid: str
    is_instance: bool = False
    computing: list[Process] = field(default_factory=list)
    drawing: list[Process] = field(default_factory=list)
    sharing: list[Process] | None = None
    """Those that share it through MPS; None where that is not supported."""
    hidden: int = 0
    """Bytes of processes that the driver does not name."""
    reserved: int = 600 << 20
    has_v2: bool = True
    lost: bool = False


class Nvml:
    """The module, with the devices of one node."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_NoPermission = NVMLError_NoPermission
    nvmlMemory_v2 = 0x02000028  # noqa: N815

    def __init__(self, *devices: Device, driver: bool = True) -> None:
        self.devices = devices
        self.driver = driver
        self.open = 0
        self.looks = 0
        self.on_look: Callable[[], object] = lambda: None

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise NVMLError_LibraryNotFound
        self.open += 1
        self.looks += 1
        self.on_look()

    def nvmlShutdown(self) -> None:  # noqa: N802
        assert self.open > 0
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._whole())

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Device:  # noqa: N802
        if index >= len(self._whole()):
            raise NVMLError_InvalidArgument
        return self._whole()[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Device:  # noqa: N802
        for device in self.devices:
            if device.uuid == uuid:
                return device
        raise NVMLError_NotFound

    def nvmlDeviceGetUUID(self, device: Device) -> str:  # noqa: N802
        return device.uuid

    def nvmlDeviceGetComputeRunningProcesses(self, device: Device) -> list[Process]:  # noqa: N802
        assert self.open
        if device.lost:
            raise NVMLError_GpuIsLost
        return list(device.computing)

    def nvmlDeviceGetGraphicsRunningProcesses(self, device: Device) -> list[Process]:  # noqa: N802
        if device.is_instance:
            raise NVMLError_NotSupported
        return list(device.drawing)

    def nvmlDeviceGetMPSComputeRunningProcesses(  # noqa: N802
        self, device: Device
    ) -> list[Process]:
        if device.sharing is None:
            raise NVMLError_NotSupported
        return list(device.sharing)

    def nvmlDeviceGetMemoryInfo(self, device: Device, version: int | None = None) -> Memory:  # noqa: N802
        if version is None:
            return Memory(self._used(device) + device.reserved)
        assert version == self.nvmlMemory_v2
        if not device.has_v2:
            raise NVMLError_NotSupported
        return Memory(self._used(device))

    def _whole(self) -> list[Device]:
        return [device for device in self.devices if not device.is_instance]

    def _used(self, device: Device) -> int:
        listed = [*device.computing, *device.drawing, *(device.sharing or ())]
        return device.hidden + sum(process.usedGpuMemory or 0 for process in listed)
