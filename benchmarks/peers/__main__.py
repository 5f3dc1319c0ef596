"""Measure beside eFormer's slice pools and Ray Serve: `python -m benchmarks.peers`, or `--quick`.

The peers are installed packages, in an environment of their own: `nox -s peers` makes it. One that
is not there is left out, and that is said.
"""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec

from benchmarks.harness import report
from benchmarks.peers import eformer_slices, serve_replicas


def main(rounds: int) -> None:
    """Measure each peer that is installed."""
    logging.getLogger("pool").setLevel(logging.CRITICAL)
    if find_spec("eformer") is None:
        print("eFormer is left out: it is not installed")
    else:
        rows, facts = eformer_slices.measure(rounds)
        report("Beside eFormer", rows, rounds=rounds, **facts)
    if find_spec("starlette") is None:
        print('Ray Serve is left out: "ray[serve]" is not installed')
    else:
        report("Beside Ray Serve", serve_replicas.measure(rounds), rounds=rounds)


if __name__ == "__main__":
    main(rounds=1 if "--quick" in sys.argv else 5)
