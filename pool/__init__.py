"""Keep pools of actors on Ray: replicas over node hosts, scaled, polled, replaced and drained.

What is exported is imported when it is first asked for: a worker process that needs one module of
this package does not pay for the others.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pool import blocking as blocking
    from pool import notices as notices
    from pool import rendezvous as rendezvous
    from pool.cluster.interface import Actor as Actor
    from pool.cluster.interface import ActorSpec as ActorSpec
    from pool.cluster.interface import Identity as Identity
    from pool.cluster.interface import Lease as Lease
    from pool.cluster.interface import Reservation as Reservation
    from pool.control.attach import attach as attach
    from pool.control.listing import PoolListing as PoolListing
    from pool.control.listing import list_pools as list_pools
    from pool.control.reap import ReapReport as ReapReport
    from pool.control.reap import reap as reap
    from pool.dispatch.results import Results as Results
    from pool.dispatch.resumable import Ending as Ending
    from pool.dispatch.resumable import Outcome as Outcome
    from pool.dispatch.resumable import run_resumable as run_resumable
    from pool.dispatch.run import Run as Run
    from pool.dispatch.run import RunOptions as RunOptions
    from pool.errors import CallTimeout as CallTimeout
    from pool.errors import ConfigError as ConfigError
    from pool.errors import DeviceHeld as DeviceHeld
    from pool.errors import Fenced as Fenced
    from pool.errors import InfeasibleError as InfeasibleError
    from pool.errors import InvalidTransition as InvalidTransition
    from pool.errors import LaunchFailed as LaunchFailed
    from pool.errors import MemberFailed as MemberFailed
    from pool.errors import MemberLost as MemberLost
    from pool.errors import MemberUnreachable as MemberUnreachable
    from pool.errors import NameTaken as NameTaken
    from pool.errors import NotAdmitted as NotAdmitted
    from pool.errors import Permanent as Permanent
    from pool.errors import PoolClosed as PoolClosed
    from pool.errors import PoolError as PoolError
    from pool.errors import PoolExists as PoolExists
    from pool.errors import PoolFailed as PoolFailed
    from pool.errors import PoolHeld as PoolHeld
    from pool.errors import PoolUnknown as PoolUnknown
    from pool.errors import ProcessFailed as ProcessFailed
    from pool.errors import ProcessTimeout as ProcessTimeout
    from pool.errors import ProgramUnreachable as ProgramUnreachable
    from pool.errors import RemoteError as RemoteError
    from pool.errors import ReservationFailed as ReservationFailed
    from pool.errors import RunCancelled as RunCancelled
    from pool.errors import SizeUnreachable as SizeUnreachable
    from pool.errors import SourceUnavailable as SourceUnavailable
    from pool.errors import StartFailed as StartFailed
    from pool.errors import Temporary as Temporary
    from pool.host import hooks as hooks
    from pool.host.cleaner import DeviceCleaner as DeviceCleaner
    from pool.host.info import HostInfo as HostInfo
    from pool.host.info import RankInfo as RankInfo
    from pool.host.info import ReplicaInfo as ReplicaInfo
    from pool.host.node_host import NodeHost as NodeHost
    from pool.host.parcel import SharedValue as SharedValue
    from pool.host.ports import PortRange as PortRange
    from pool.manager.events import Event as Event
    from pool.manager.events import EventKind as EventKind
    from pool.manager.ladder import MemberReport as MemberReport
    from pool.manager.manager import ResourcePoolManager as ResourcePoolManager
    from pool.manager.member import Member as Member
    from pool.manager.results import RollResult as RollResult
    from pool.manager.results import ScaleResult as ScaleResult
    from pool.manager.snapshot import MemberSnapshot as MemberSnapshot
    from pool.manager.snapshot import NoticeSnapshot as NoticeSnapshot
    from pool.manager.snapshot import PoolSnapshot as PoolSnapshot
    from pool.manager.snapshot import SlotSnapshot as SlotSnapshot
    from pool.page.page import Page as Page
    from pool.planning.budgets import Budget as Budget
    from pool.planning.capacity import Capacity as Capacity
    from pool.planning.drain import DrainPolicy as DrainPolicy
    from pool.planning.elastic import ElasticPolicy as ElasticPolicy
    from pool.planning.health import HealthPolicy as HealthPolicy
    from pool.planning.lifecycle import State as State
    from pool.planning.notice import Notice as Notice
    from pool.planning.notice import NoticeKind as NoticeKind
    from pool.planning.notice_policy import NoticePolicy as NoticePolicy
    from pool.planning.placement import Deferred as Deferred
    from pool.planning.placement import Placement as Placement
    from pool.planning.placement import Separate as Separate
    from pool.planning.placement import Shared as Shared
    from pool.planning.program import ProgramPlan as ProgramPlan
    from pool.planning.program import RoleSeat as RoleSeat
    from pool.planning.resources import Resources as Resources
    from pool.planning.restart import Cause as Cause
    from pool.planning.restart import RestartPolicy as RestartPolicy
    from pool.planning.rolling import RollPolicy as RollPolicy
    from pool.planning.shape import BundlePlan as BundlePlan
    from pool.planning.shape import ReplicaShape as ReplicaShape
    from pool.planning.shares import MainAndSides as MainAndSides
    from pool.planning.shares import Peers as Peers
    from pool.planning.topology import Node as Node
    from pool.planning.topology import NodeSelector as NodeSelector
    from pool.planning.topology import Topology as Topology
    from pool.process import probes as probes
    from pool.process.exits import Exit as Exit
    from pool.process.exits import StopReport as StopReport
    from pool.process.fill import Fill as Fill
    from pool.process.flags import flags as flags
    from pool.process.managed import ProcessStatus as ProcessStatus
    from pool.process.order import LogLimit as LogLimit
    from pool.process.spec import Liveness as Liveness
    from pool.process.spec import Process as Process
    from pool.replica.colocated_pool import ColocatedPool as ColocatedPool
    from pool.replica.host import Host as Host
    from pool.replica.host_pool import HostPool as HostPool
    from pool.replica.process import ManagedProcess as ManagedProcess
    from pool.replica.program import Program as Program
    from pool.replica.ranks import Ranks as Ranks
    from pool.replica.replica_pool import ReplicaPool as ReplicaPool
    from pool.replica.slice_pool import SlicePool as SlicePool
    from pool.replica.view import View as View
    from pool.signals import Stop as Stop
    from pool.signals import stop_on as stop_on

__all__ = [
    "Actor",
    "ActorSpec",
    "Budget",
    "BundlePlan",
    "CallTimeout",
    "Capacity",
    "Cause",
    "ColocatedPool",
    "ConfigError",
    "Deferred",
    "DeviceCleaner",
    "DeviceHeld",
    "DrainPolicy",
    "ElasticPolicy",
    "Ending",
    "Event",
    "EventKind",
    "Exit",
    "Fenced",
    "Fill",
    "HealthPolicy",
    "Host",
    "HostInfo",
    "HostPool",
    "Identity",
    "InfeasibleError",
    "InvalidTransition",
    "LaunchFailed",
    "Lease",
    "Liveness",
    "LogLimit",
    "MainAndSides",
    "ManagedProcess",
    "Member",
    "MemberFailed",
    "MemberLost",
    "MemberReport",
    "MemberSnapshot",
    "MemberUnreachable",
    "NameTaken",
    "Node",
    "NodeHost",
    "NodeSelector",
    "NotAdmitted",
    "Notice",
    "NoticeKind",
    "NoticePolicy",
    "NoticeSnapshot",
    "Outcome",
    "Page",
    "Peers",
    "Permanent",
    "Placement",
    "PoolClosed",
    "PoolError",
    "PoolExists",
    "PoolFailed",
    "PoolHeld",
    "PoolListing",
    "PoolSnapshot",
    "PoolUnknown",
    "PortRange",
    "Process",
    "ProcessFailed",
    "ProcessStatus",
    "ProcessTimeout",
    "Program",
    "ProgramPlan",
    "ProgramUnreachable",
    "RankInfo",
    "Ranks",
    "ReapReport",
    "RemoteError",
    "ReplicaInfo",
    "ReplicaPool",
    "ReplicaShape",
    "Reservation",
    "ReservationFailed",
    "ResourcePoolManager",
    "Resources",
    "RestartPolicy",
    "Results",
    "RoleSeat",
    "RollPolicy",
    "RollResult",
    "Run",
    "RunCancelled",
    "RunOptions",
    "ScaleResult",
    "Separate",
    "Shared",
    "SharedValue",
    "SizeUnreachable",
    "SlicePool",
    "SlotSnapshot",
    "SourceUnavailable",
    "StartFailed",
    "State",
    "Stop",
    "StopReport",
    "Temporary",
    "Topology",
    "View",
    "attach",
    "blocking",
    "flags",
    "hooks",
    "list_pools",
    "notices",
    "probes",
    "reap",
    "rendezvous",
    "run_resumable",
    "stop_on",
]

_HOMES = {
    "pool.blocking": ("blocking",),
    "pool.cluster.interface": ("Actor", "ActorSpec", "Identity", "Lease", "Reservation"),
    "pool.control.attach": ("attach",),
    "pool.control.listing": ("PoolListing", "list_pools"),
    "pool.control.reap": ("ReapReport", "reap"),
    "pool.dispatch.results": ("Results",),
    "pool.dispatch.resumable": ("Ending", "Outcome", "run_resumable"),
    "pool.dispatch.run": ("Run", "RunOptions"),
    "pool.errors": (
        "CallTimeout",
        "ConfigError",
        "DeviceHeld",
        "Fenced",
        "InfeasibleError",
        "InvalidTransition",
        "LaunchFailed",
        "MemberFailed",
        "MemberLost",
        "MemberUnreachable",
        "NameTaken",
        "NotAdmitted",
        "Permanent",
        "PoolClosed",
        "PoolError",
        "PoolExists",
        "PoolFailed",
        "PoolHeld",
        "PoolUnknown",
        "ProcessFailed",
        "ProcessTimeout",
        "ProgramUnreachable",
        "RemoteError",
        "ReservationFailed",
        "RunCancelled",
        "SizeUnreachable",
        "SourceUnavailable",
        "StartFailed",
        "Temporary",
    ),
    "pool.host.cleaner": ("DeviceCleaner",),
    "pool.host.hooks": ("hooks",),
    "pool.host.info": ("HostInfo", "RankInfo", "ReplicaInfo"),
    "pool.host.node_host": ("NodeHost",),
    "pool.host.parcel": ("SharedValue",),
    "pool.host.ports": ("PortRange",),
    "pool.manager.events": ("Event", "EventKind"),
    "pool.manager.ladder": ("MemberReport",),
    "pool.manager.manager": ("ResourcePoolManager",),
    "pool.manager.member": ("Member",),
    "pool.manager.results": ("RollResult", "ScaleResult"),
    "pool.manager.snapshot": ("MemberSnapshot", "NoticeSnapshot", "PoolSnapshot", "SlotSnapshot"),
    "pool.notices": ("notices",),
    "pool.page.page": ("Page",),
    "pool.planning.budgets": ("Budget",),
    "pool.planning.drain": ("DrainPolicy",),
    "pool.planning.elastic": ("ElasticPolicy",),
    "pool.planning.health": ("HealthPolicy",),
    "pool.planning.lifecycle": ("State",),
    "pool.planning.notice": ("Notice", "NoticeKind"),
    "pool.planning.notice_policy": ("NoticePolicy",),
    "pool.planning.capacity": ("Capacity",),
    "pool.planning.placement": ("Deferred", "Placement", "Separate", "Shared"),
    "pool.planning.program": ("ProgramPlan", "RoleSeat"),
    "pool.planning.resources": ("Resources",),
    "pool.planning.restart": ("Cause", "RestartPolicy"),
    "pool.planning.rolling": ("RollPolicy",),
    "pool.planning.shape": ("BundlePlan", "ReplicaShape"),
    "pool.planning.shares": ("MainAndSides", "Peers"),
    "pool.planning.topology": ("Node", "NodeSelector", "Topology"),
    "pool.rendezvous": ("rendezvous",),
    "pool.process.fill": ("Fill",),
    "pool.process.flags": ("flags",),
    "pool.process.exits": ("Exit", "StopReport"),
    "pool.process.order": ("LogLimit",),
    "pool.process.managed": ("ProcessStatus",),
    "pool.process.probes": ("probes",),
    "pool.process.spec": ("Liveness", "Process"),
    "pool.replica.colocated_pool": ("ColocatedPool",),
    "pool.replica.host": ("Host",),
    "pool.replica.host_pool": ("HostPool",),
    "pool.replica.process": ("ManagedProcess",),
    "pool.replica.program": ("Program",),
    "pool.replica.ranks": ("Ranks",),
    "pool.replica.replica_pool": ("ReplicaPool",),
    "pool.replica.slice_pool": ("SlicePool",),
    "pool.replica.view": ("View",),
    "pool.signals": ("Stop", "stop_on"),
}
"""Where each export is at home."""
_MODULES = {"blocking", "hooks", "notices", "probes", "rendezvous"}
"""Exports that are modules, and at home in themselves."""
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(_HOME_OF[name])
    value = home if name in _MODULES else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
