"""The job once more, by one thread of this process: the result that the pool's is compared with.

It runs while the cluster starts, which leaves the processor idle for most of the time. Its own time
is thus no measure of anything but itself.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Sequence

from pool.demo.corpus import Batch, Census, count, merge


class SerialCount:
    """Count all batches in a thread of its own, from now on.

    Args:
        batches: The whole input.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.census: Census = {}
        self.took_s = 0.0
        self._batches = batches
        self._stopped = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="serial-count", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for batch in self._batches:
                    if self._stopped:
                        return
                    merge(self.census, count(batch))
        except Exception as error:
            self._error = error
        self.took_s = time.monotonic() - began

    def wait(self) -> None:
        """Wait for the end; raises what the counting raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End it early, within one batch."""
        self._stopped = True
        self._thread.join()
