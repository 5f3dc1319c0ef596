"""Who starts on devices whose memory a predecessor still holds waits for it (row N8)."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest

import pool
from pool.cluster.body import Context
from pool.cluster.interface import Identity
from pool.host.body import HostBody
from pool.host.plan import HostPlace, HostPlan
from pool.host.run_body import RunBody
from pool.host.worker_body import Portion
from pool.manager.policies import Policies
from pool.testing import run
from tests.host.fake_nvml import Device, Nvml, Process

GIB = 1 << 30
IDENTITY = Identity(pool="p/0.1", instance="abc", slot=0, generation=1, level="host")
ONE = pool.Resources({"GPU": 1})
BY_PREDECESSOR = "process 11 holds 1.00 GiB of device 0"
nowhere: Any = None


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    """Stand for a driver on whose only device process 11 still holds memory."""
    held = Nvml(Device("GPU-a", computing=[Process(11, GIB)]))
    monkeypatch.setitem(sys.modules, "pynvml", held)
    return held


def context(**options: Any) -> Context:
    return Context(nowhere, IDENTITY, "node-0", "10.0.0.1", environ={}, **options)


def start_run(portion: Portion) -> None:
    async def main() -> None:
        await RunBody(portion, {}).start(context(has_process=False))

    run(main, limit_s=600)


def test_a_run_waits_for_the_memory_of_its_devices_and_says_who_holds_it(nvml: Nvml) -> None:
    portion = Portion(amount=ONE, ids={"GPU": ("0",)}, memory_limit_s=5)
    with pytest.raises(pool.DeviceHeld, match=BY_PREDECESSOR):
        start_run(portion)
    # The predecessor ends while it is waited for.
    nvml.on_look = nvml.devices[0].computing.clear
    start_run(portion)


@pytest.mark.parametrize(
    "shared",
    [
        Portion(amount=ONE, ids={"GPU": ("0",)}, is_alone=False),
        Portion(amount=pool.Resources({"GPU": 0.5}), ids={"GPU": ("0",)}),
        Portion(amount=pool.Resources({"CPU": 1}), ids={}),
    ],
    ids=["beside another role", "a part of a device", "none"],
)
def test_who_shares_a_device_does_not_wait_for_it(nvml: Nvml, shared: Portion) -> None:
    start_run(shared)
    assert nvml.looks == 0


def test_a_process_of_a_host_that_holds_its_devices_waits_for_them(nvml: Nvml) -> None:
    place = HostPlace(0, pool.Reservation("g", ("node-0",), (ONE,)))

    async def main(*, shares_devices: bool) -> None:
        policies = Policies(start_timeout_s=0.4)
        plan = HostPlan(
            host_class=pool.NodeHost,
            holds_devices=True,
            shares_devices=shares_devices,
            policies=policies,
        )
        body = HostBody(plan, place)
        await body.start(context(devices={"GPU": ("0",)}))
        try:
            nap = pool.Process(["sleep", "60"], devices=1)
            await body.start_process(nap, {}, essential=False)
        finally:
            await body.shutdown(10)

    with pytest.raises(pool.DeviceHeld, match=BY_PREDECESSOR):
        anyio.run(lambda: main(shares_devices=False))
    looks = nvml.looks
    anyio.run(lambda: main(shares_devices=True))
    assert nvml.looks == looks
