"""`kill -9` of a replica's processes: to detected, and from there to the replacement ready."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass

from ray.exceptions import RayActorError

import pool
from benchmarks.bare import BareGang
from benchmarks.embedded import pid_of, until_none_idles
from benchmarks.harness import Measured
from benchmarks.listener import Listener

DETECTED_S = 0.050
REPLACED_RATIO = 1.15
GPUS = 4
AT_ONCE = pool.RestartPolicy(intensity=1_000_000, delay_s=0, delay_max_s=0, jitter=0)
"""No back-off: it is a pause that users choose, and no part of what a replacement costs."""
PATIENT = pool.HealthPolicy(period_s=5, timeout_s=5, failures=1000)


@dataclass(frozen=True, slots=True)
class Laps:
    """Collect what the two contestants took, for one shape."""

    hosts: int
    detected: dict[str, Measured]
    replaced: Measured
    bare_detected: Measured
    bare_replaced: Measured

    @classmethod
    def of(cls, hosts: int) -> Laps:
        """Prepare the rows of the table for replicas of so many hosts."""
        shape = f"{hosts} host" + "s" * (hosts > 1)
        bare_detected = Measured(f"  bare Ray: to the exception, {shape}")
        bare_replaced = Measured(f"  bare Ray: exception to first replies, {shape}")
        # The only host of a replica is its actor.
        killed = ("replica actor", "node host") if hosts > 1 else ("replica",)
        detected = {
            whom: Measured(f"{whom} killed, to detected, {shape}", DETECTED_S, beside=bare_detected)
            for whom in killed
        }
        replaced = Measured(
            f"detected to replacement ready, {shape}",
            beside=bare_replaced,
            goal_ratio=REPLACED_RATIO,
        )
        return cls(hosts, detected, replaced, bare_detected, bare_replaced)

    def rows(self) -> list[Measured]:
        """List the rows of the table."""
        return [*self.detected.values(), self.bare_detected, self.replaced, self.bare_replaced]


async def measure(rounds: int) -> list[Measured]:
    """Kill, in turn, ours and bare ones: the supervisor of a gang of several, and a host."""
    rows: list[Measured] = []
    for hosts in (1, 2):
        laps = Laps.of(hosts)
        gang = BareGang([{"GPU": float(GPUS), "CPU": float(GPUS)}] * hosts)
        await gang.build()
        async with pool.ReplicaPool(
            "ours",
            shape=pool.ReplicaShape(devices=GPUS * hosts),
            restart=AT_ONCE,
            health=PATIENT,
        ) as replicas:
            result = await replicas.scale(1, timeout_s=60)
            assert result.is_complete, result
            listener = Listener(replicas)
            for number in range(rounds + 1):
                for whom in laps.detected:
                    await until_none_idles()
                    ours = await _kill_ours(replicas, listener, whom)
                    await until_none_idles()
                    bare = await _kill_bare(gang, -1 if whom == "node host" else 0)
                    if number:
                        laps.detected[whom].rounds_s.append(ours[0])
                        laps.replaced.rounds_s.append(ours[1])
                        laps.bare_detected.rounds_s.append(bare[0])
                        laps.bare_replaced.rounds_s.append(bare[1])
        gang.remove()
        rows += laps.rows()
    return rows


async def _kill_ours(
    replicas: pool.ReplicaPool, listener: Listener, whom: str
) -> tuple[float, float]:
    """Kill one process of the only replica; return the seconds to detected and to ready again."""
    [member] = replicas.members(serving=True)
    assert member.actor is not None
    assert member.info is not None
    pid = member.info.hosts[-1].pid if whom == "node host" else pid_of(member.actor.id)
    listener.forget()
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    detected = await listener.until(pool.EventKind.MEMBER_FAULT)
    ready = await listener.until(pool.EventKind.MEMBER_STATE, state="ready")
    await replicas.wait_settled(60)
    return detected - killed, ready - detected


async def _kill_bare(gang: BareGang, index: int) -> tuple[float, float]:
    """Do the same by hand: a pending call tells of the death, then all is made anew."""
    pending = gang.actors[index].never.remote()
    # The call has to be there before its actor dies.
    await gang.actors[index].check_health.remote()
    killed = time.monotonic()
    os.kill(gang.pids[index], signal.SIGKILL)
    with contextlib.suppress(RayActorError):
        await pending
    detected = time.monotonic()
    gang.remove()
    await gang.build()
    return detected - killed, time.monotonic() - detected
