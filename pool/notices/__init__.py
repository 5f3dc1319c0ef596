"""Sources of notices: who is asked whether a node will go away.

`detect()` is what most pools need: it finds out on each node what can be asked there.
"""

from pool.notices.aws import AwsMaintenance as AwsMaintenance
from pool.notices.aws import AwsRebalance as AwsRebalance
from pool.notices.aws import AwsSpotInterruption as AwsSpotInterruption
from pool.notices.azure import AzureScheduledEvents as AzureScheduledEvents
from pool.notices.detect import detect as detect
from pool.notices.draining import DrainingNodes as DrainingNodes
from pool.notices.file import FileNotice as FileNotice
from pool.notices.function import FunctionNotices as FunctionNotices
from pool.notices.gce import GceMaintenanceEvent as GceMaintenanceEvent
from pool.notices.gce import GcePreemption as GcePreemption
from pool.notices.gce import GceUpcomingMaintenance as GceUpcomingMaintenance
from pool.notices.kubernetes import Kubernetes as Kubernetes
from pool.notices.kubernetes import KubernetesNode as KubernetesNode
from pool.notices.kubernetes import KubernetesPod as KubernetesPod
from pool.notices.signals import SignalNotices as SignalNotices
from pool.notices.slurm import SlurmWallTime as SlurmWallTime
from pool.notices.source import ClusterNoticeSource as ClusterNoticeSource
from pool.notices.source import NodeNoticeSource as NodeNoticeSource
from pool.notices.source import NoticeSource as NoticeSource
from pool.planning.notice import Notice as Notice
from pool.planning.notice import NoticeKind as NoticeKind
from pool.planning.notice_policy import Answer as Answer
from pool.planning.notice_policy import NoticePolicy as NoticePolicy

__all__ = [
    "Answer",
    "AwsMaintenance",
    "AwsRebalance",
    "AwsSpotInterruption",
    "AzureScheduledEvents",
    "ClusterNoticeSource",
    "DrainingNodes",
    "FileNotice",
    "FunctionNotices",
    "GceMaintenanceEvent",
    "GcePreemption",
    "GceUpcomingMaintenance",
    "Kubernetes",
    "KubernetesNode",
    "KubernetesPod",
    "NodeNoticeSource",
    "Notice",
    "NoticeKind",
    "NoticePolicy",
    "NoticeSource",
    "SignalNotices",
    "SlurmWallTime",
    "detect",
]
