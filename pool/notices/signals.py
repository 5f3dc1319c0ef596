"""A signal to the process that holds the pool, as a notice for every node that the pool uses.

Slurm sends one before the end of a job (`--signal=USR1@120`) and when it preempts the job (SIGTERM,
then GraceTime); Kubernetes sends SIGTERM to a pod that it deletes. `pool.stop_on` ends a block by
such a signal, at once. This is the gentler answer: members work on, and are drained in time.

Limits: signals are caught on the main thread alone, so `listen` has to be called there. Worker
processes of Ray have their main thread in C++, and never run a handler of Python's; a signal to
them is better turned into a file, by a trap in the batch script or a preStop hook (`FileNotice`).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pool.cluster.interface import Cluster
from pool.errors import ConfigError, SourceUnavailable
from pool.notices.http_source import positive
from pool.notices.source import ClusterNoticeSource
from pool.planning.notice import Notice, NoticeKind


class SignalNotices(ClusterNoticeSource):
    """Say that all nodes go away, once a signal came.

    The pool listens when it opens, where it is opened on the main thread. From then on the signal
    has no other effect. Who had it before gets it back with `forget`.

    Args:
        signum: Which signal.
        within_s: Seconds from the signal to the end: what stands behind the `@`, the GraceTime, or
            the pod's terminationGracePeriodSeconds.
        kind: What is going to happen.
        period_s: Seconds between two looks.

    Raises:
        ConfigError: A value cannot be right.
    """

    def __init__(
        self,
        signum: signal.Signals = signal.SIGTERM,
        within_s: float = 30.0,
        kind: NoticeKind = NoticeKind.PREEMPT,
        period_s: float = 0.25,
    ) -> None:
        if signum not in signal.valid_signals() or signum in (signal.SIGKILL, signal.SIGSTOP):
            raise ConfigError(f"signum is {signum!r}; give a signal that can be caught", "signum")
        self.signum = signal.Signals(signum)
        self.within_s = positive(within_s, "within_s")
        self.kind = NoticeKind(kind)
        self.name = f"signal:{self.signum.name}"
        self.period_s = positive(period_s, "period_s")
        self._at: float | None = None
        self._before: Any = None
        self._listens = False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_at": None, "_before": None, "_listens": False}

    def listen(self) -> None:
        """Take the signal over, if that was not done yet.

        Raises:
            SourceUnavailable: This is not the main thread.
        """
        if self._listens:
            return
        if threading.current_thread() is not threading.main_thread():
            raise SourceUnavailable(
                f"{self.name}: signals are caught on the main thread; call listen() there"
            )
        self._before = signal.signal(self.signum, self._note)
        self._listens = True

    def forget(self) -> None:
        """Give the signal back to who had it before, and withdraw the notice."""
        self._at = None
        if self._listens:
            self._listens = False
            if signal.getsignal(self.signum) == self._note:
                signal.signal(self.signum, self._before or signal.SIG_DFL)

    def _note(self, signum: int, frame: object) -> None:
        if self._at is None:
            self._at = time.time()

    async def check(self, cluster: Cluster, node_ids: Sequence[str]) -> Mapping[str, Notice]:
        self.listen()
        if self._at is None:
            return {}
        notice = Notice(
            kind=self.kind,
            deadline=self._at + self.within_s,
            source=self.name,
            reason=f"this process got {self.signum.name}",
        )
        return dict.fromkeys(node_ids, notice)
