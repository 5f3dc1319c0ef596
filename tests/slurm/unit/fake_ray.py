"""A `ray start` that starts no Ray: it listens, says that it has started, and leaves orphans.

What it does otherwise the environment says: `FAKE_FAILS` and `FAKE_HANGS` name a rank.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    given = {name: value for name, _, value in (word.partition("=") for word in sys.argv[1:])}
    rank = os.environ["POOL_SLURM_RANK"]
    Path(given["--temp-dir"], "session_1", "logs").mkdir(parents=True)
    Path(given["--temp-dir"], "session_1", "logs", "raylet.out").write_text("a log of Ray\n")
    # As Ray does it: a daemon in a session of its own, whose parent ends.
    subprocess.run(
        ["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &"], check=True, stdin=subprocess.DEVNULL
    )
    if os.environ.get("FAKE_FAILS") == rank:
        sys.exit("the fake fails")
    if "--head" in given:
        listener = socket.create_server(("", int(given["--port"])), backlog=50)
        listener.set_inheritable(False)
    else:
        host, _, port = given["--address"].partition(":")
        socket.create_connection((host, int(port))).close()
    if os.environ.get("FAKE_HANGS") != rank:
        print("Ray runtime started.", flush=True)
    while True:
        time.sleep(600)


main()
