"""Waiting until device memory is free (row N8)."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

import pool
from pool.host.device_memory import SLACK_BYTES, Holder, holders, wait_free
from pool.testing import run
from tests.host import fake_nvml
from tests.host.fake_nvml import Device, Nvml, Process

GIB = 1 << 30
ME = os.getpid()
MY_NAME = Path("/proc/self/comm").read_text().strip()


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def sync() -> None:
        run(test, limit_s=3600)

    sync.__name__ = test.__name__
    return sync


# --- who holds ------------------------------------------------------------------------------------


def held(nvml: Nvml, *devices: str, **options: Any) -> list[tuple[str, int | None, int | None]]:
    options.setdefault("in_container", False)
    found = holders(devices, nvml=nvml, **options)
    assert nvml.open == 0, "what was opened is closed"
    return [(holder.device, holder.pid, holder.used) for holder in found]


def test_only_who_computes_on_the_devices_asked_for_and_holds_more_than_the_slack_counts() -> None:
    nvml = Nvml(
        Device("GPU-a", computing=[Process(11, 3 * GIB), Process(12, SLACK_BYTES)]),
        Device("GPU-b", computing=[Process(13, 5 * GIB)]),
        Device("GPU-c", drawing=[Process(14, 7 * GIB)]),
    )
    assert held(nvml, "0", "2") == [("0", 11, 3 * GIB)]
    assert held(nvml, "0", slack_bytes=GIB * 3) == []
    assert held(nvml, "0", slack_bytes=0) == [("0", 11, 3 * GIB), ("0", 12, SLACK_BYTES)]
    assert held(nvml, "0", "1", neighbours=[11]) == [("1", 13, 5 * GIB)]


def test_who_computes_through_mps_counts_and_its_server_does_not() -> None:
    server = Process(20, 30 << 20)
    nvml = Nvml(Device("GPU-a", computing=[server], sharing=[Process(21, GIB)]))
    assert held(nvml, "0") == [("0", 21, GIB)]


def test_an_amount_that_the_driver_does_not_tell_is_not_taken_for_small() -> None:
    nvml = Nvml(Device("GPU-a", computing=[Process(11, None)]))
    assert held(nvml, "0") == [("0", 11, None)]
    assert held(nvml, "0", neighbours=[11], in_container=True) == []


def test_a_process_on_several_instances_holds_what_it_holds_on_all_of_them() -> None:
    part = SLACK_BYTES // 2 + 1
    nvml = Nvml(Device("GPU-a", computing=[Process(11, part), Process(11, part)]))
    assert held(nvml, "0") == [("0", 11, 2 * part)]
    nvml.devices[0].computing.append(Process(11, None))
    assert held(nvml, "0") == [("0", 11, None)]


def test_devices_are_found_by_index_by_uuid_by_its_beginning_and_as_mig_instances() -> None:
    nvml = Nvml(
        Device("GPU-aa11", computing=[Process(11, GIB)]),
        Device("MIG-7f", is_instance=True, computing=[Process(12, GIB)]),
        Device("GPU-ab22", computing=[Process(13, GIB)]),
    )
    for device, pid in (("1", 13), ("GPU-aa11", 11), ("GPU-ab", 13), ("MIG-7f", 12)):
        assert held(nvml, device) == [(device, pid, GIB)]
    assert held(nvml, "MIG-7f", in_container=True) == [("MIG-7f", 12, GIB)]


@pytest.mark.parametrize("device", ["7", "GPU-a", "GPU-zz", "MIG-zz", "nonsense"])
def test_a_device_that_the_driver_does_not_know_is_said_and_not_waited_for(
    device: str, caplog: pytest.LogCaptureFixture
) -> None:
    nvml = Nvml(Device("GPU-aa11"), Device("GPU-ab22", computing=[Process(13, GIB)]))
    with caplog.at_level(logging.WARNING, "pool"):
        assert held(nvml, device, "1") == [("1", 13, GIB)]
    assert f"event='devices_unknown' device='{device}'" in caplog.text


def test_a_device_that_fell_off_the_bus_is_said_and_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """INV-9: a check that could not be made is no verdict."""
    with caplog.at_level(logging.WARNING, "pool"):
        assert held(Nvml(Device("GPU-a", lost=True)), "0") == []
    assert "event='devices_unknown' device='0'" in caplog.text


def test_in_a_container_memory_that_no_process_explains_is_held_by_somebody_outside() -> None:
    device = Device("GPU-a", hidden=4 * GIB, drawing=[Process(14, 2 * GIB)])
    assert held(Nvml(device), "0", in_container=True) == [("0", None, 4 * GIB)]
    assert held(Nvml(device), "0") == [], "outside, the list of processes is whole"
    known = Device("GPU-a", hidden=4 * GIB, computing=[Process(11, GIB)])
    assert held(Nvml(known), "0", in_container=True) == [("0", 11, GIB)]
    assert held(Nvml(known), "0", in_container=True, neighbours=[11]) == [("0", None, 4 * GIB)]


def test_what_the_driver_reserves_for_itself_is_not_held_by_anybody() -> None:
    nvml = Nvml(Device("GPU-a", reserved=2 * GIB, hidden=1 << 20))
    assert held(nvml, "0", in_container=True) == []
    # Where the driver cannot tell the two apart, the amount says nothing.
    nvml = Nvml(Device("GPU-a", reserved=2 * GIB, hidden=4 * GIB, has_v2=False))
    assert held(nvml, "0", in_container=True) == []


def test_whether_processes_may_be_hidden_is_found_out() -> None:
    inode = Path("/proc/self/ns/pid").stat().st_ino
    found = holders(["0"], nvml=Nvml(Device("GPU-a", hidden=4 * GIB)))
    assert bool(found) == (inode != 0xEFFFFFFC)


@pytest.mark.parametrize(
    ("holder", "says"),
    [
        (Holder("0", 11, "python", 3 * GIB), "process 11 (python) holds 3.00 GiB of device 0"),
        (Holder("GPU-a", 11, "", None), "process 11 holds memory of device GPU-a"),
        (
            Holder("0", None, "", GIB),
            "somebody outside this container holds 1.00 GiB of device 0",
        ),
    ],
)
def test_a_holder_says_who_it_is(holder: Holder, says: str) -> None:
    assert str(holder) == says


def test_the_name_of_a_process_is_that_of_proc_and_none_when_it_is_gone() -> None:
    nvml = Nvml(Device("GPU-a", computing=[Process(ME, GIB), Process(2**30, GIB)]))
    assert [holder.name for holder in holders(["0"], nvml=nvml)] == [MY_NAME, ""]


# --- waiting --------------------------------------------------------------------------------------


@in_virtual_time
async def test_it_waits_until_the_last_holder_is_gone() -> None:
    device = Device("GPU-a", computing=[Process(11, GIB), Process(12, GIB)])
    nvml = Nvml(device)

    def look() -> None:
        if nvml.looks > 3:
            device.computing[:] = device.computing[1:]

    nvml.on_look = look
    began = anyio.current_time()
    await wait_free([0], 30, period_s=2, nvml=nvml)
    assert (anyio.current_time() - began, nvml.looks, nvml.open) == (8, 5, 0)


@in_virtual_time
async def test_after_its_limit_it_says_who_holds_how_much_of_which_device() -> None:
    nvml = Nvml(Device("GPU-a", computing=[Process(ME, 3 * GIB)]))
    began = anyio.current_time()
    with pytest.raises(pool.DeviceHeld) as error:
        await wait_free(["GPU-a"], 30, nvml=nvml)
    assert anyio.current_time() - began == 30
    assert str(error.value) == (
        f"after 30 s, device memory is still in use: process {ME} ({MY_NAME}) holds 3.00 GiB of "
        "device GPU-a. End these processes, or keep them off these devices"
    )
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.waited_s, again.holders) == (30, error.value.holders)


@in_virtual_time
async def test_it_is_quiet_without_devices_and_without_a_driver() -> None:
    without = Nvml(driver=False)
    await wait_free([], 1, nvml=without)
    await wait_free([0, "GPU-a"], 1, nvml=without)
    assert without.looks == 0


def test_it_is_quiet_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    run(lambda: wait_free([0], 1), limit_s=60)


def test_the_module_is_imported_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml: Any = Nvml(Device("GPU-a"))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    run(lambda: wait_free([0], 1), limit_s=60)
    assert nvml.looks == 1


def test_a_driver_that_hangs_is_said_and_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    nvml = Nvml(Device("GPU-a", computing=[Process(11, GIB)]))
    release = threading.Event()
    nvml.on_look = lambda: release.wait(30)

    async def main() -> None:
        try:
            await wait_free([0], 0.2, nvml=nvml)
        finally:
            release.set()

    with caplog.at_level(logging.WARNING, "pool"):
        anyio.run(main)
    assert "no answer within 0.2 s" in caplog.text


@pytest.mark.parametrize("options", [{"limit_s": 0}, {"limit_s": float("nan")}, {"period_s": -1}])
def test_times_that_are_none_are_refused(options: dict[str, float]) -> None:
    arguments: dict[str, Any] = {"limit_s": 1} | options
    with pytest.raises(pool.ConfigError, match="more than 0 seconds"):
        run(lambda: wait_free([0], **arguments), limit_s=60)


def test_the_stand_in_has_the_names_and_arguments_of_the_real_module() -> None:
    real = pytest.importorskip("pynvml")
    for name in (name for name in vars(fake_nvml) if name.startswith("NVMLError")):
        assert issubclass(getattr(real, name), real.NVMLError)
    assert real.nvmlMemory_v2 == Nvml.nvmlMemory_v2
    for name in (name for name in vars(Nvml) if inspect.isfunction(getattr(Nvml, name))):
        if not name.startswith("nvml"):
            continue
        given = [*inspect.signature(getattr(Nvml, name)).parameters][1:]
        there = inspect.signature(getattr(real, name)).parameters
        assert len(given) <= len(there) or "args" in there, name
