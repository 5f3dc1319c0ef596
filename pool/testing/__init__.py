"""Test a pool, or a subclass of one, on a simulated cluster in virtual time."""

from pool.testing.cluster import SimulatedCluster as SimulatedCluster
from pool.testing.faults import FaultPlan as FaultPlan
from pool.testing.meters import MeterBook as MeterBook
from pool.testing.room import SimNode as SimNode
from pool.testing.virtual_time import Deadlock as Deadlock
from pool.testing.virtual_time import RealWorld as RealWorld
from pool.testing.virtual_time import SimulationError as SimulationError
from pool.testing.virtual_time import TimeLimit as TimeLimit
from pool.testing.virtual_time import VirtualTime as VirtualTime
from pool.testing.virtual_time import run as run
from pool.testing.world import Autoscaler as Autoscaler

__all__ = [
    "Autoscaler",
    "Deadlock",
    "FaultPlan",
    "MeterBook",
    "RealWorld",
    "SimNode",
    "SimulatedCluster",
    "SimulationError",
    "TimeLimit",
    "VirtualTime",
    "run",
]
