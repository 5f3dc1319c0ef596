"""Sources of notices: who is asked whether a node will go away."""

from pool.notices.draining import DrainingNodes as DrainingNodes
from pool.notices.file import FileNotice as FileNotice
from pool.notices.function import FunctionNotices as FunctionNotices
from pool.notices.source import ClusterNoticeSource as ClusterNoticeSource
from pool.notices.source import NodeNoticeSource as NodeNoticeSource
from pool.notices.source import NoticeSource as NoticeSource
from pool.planning.notice import Notice as Notice
from pool.planning.notice import NoticeKind as NoticeKind

__all__ = [
    "ClusterNoticeSource",
    "DrainingNodes",
    "FileNotice",
    "FunctionNotices",
    "NodeNoticeSource",
    "Notice",
    "NoticeKind",
    "NoticeSource",
]
