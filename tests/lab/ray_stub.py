"""Stands for `ray start` where what is tested is Slurm's side: cheap enough for many nodes.

Like Ray it listens, or asks the head until that does; it leaves files in its temporary folder and
a daemon that is no child of it any more, and with `--block` it stays. `RAY_STUB` has it misbehave
on some nodes: `n2=fail:1,n3=hang` fails once on n2, and never joins on n3; `die:5` joins and ends
after five seconds.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterable

PATIENCE_S = 30.0


def main() -> int:
    given = _pairs(each.removeprefix("--") for each in sys.argv[2:])
    folder = given["temp-dir"]
    kind, _, number = _misbehaviour().partition(":")
    if kind == "fail" and (not number or _count(folder) <= int(number)):
        print("it fails because it was told to", flush=True)
        return 1
    os.makedirs(os.path.join(folder, "session_stub", "logs"), exist_ok=True)
    with open(os.path.join(folder, "session_stub", "logs", "raylet.out"), "w") as log:
        log.write("what a raylet says\n")
    # The daemon has what listens, as Ray's GCS is one.
    kept = _listen(given) if "head" in given else _join(given["address"])
    _leave_a_daemon()
    if kind == "hang":
        time.sleep(600)
    print("Ray runtime started.", flush=True)
    if kind == "die":
        time.sleep(float(number))
        print("it dies because it was told to", flush=True)
        return 3
    if "block" in given:
        while True:
            signal.pause()
    kept.close()  # the daemon's copy stays
    return 0


def _pairs(words: Iterable[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        found[name] = value
    return found


def _misbehaviour() -> str:
    told = _pairs(os.environ.get("RAY_STUB", "").split(","))
    return told.get(os.uname().nodename, "")


def _count(folder: str) -> int:
    """Return how often this was run on this node by this job."""
    with open(f"/dev/shm/stub-{os.environ['SLURM_JOB_ID']}", "a+b") as tally:
        tally.write(b".")
        return tally.tell()


def _listen(given: dict[str, str]) -> socket.socket:
    return socket.create_server((given["node-ip-address"], int(given["port"])), backlog=1024)


def _join(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=5)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _leave_a_daemon() -> None:
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.closerange(0, 3)
    while True:
        time.sleep(600)


if __name__ == "__main__":
    sys.exit(main())
