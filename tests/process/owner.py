"""An owner that can be killed. Run as `owner.py <what>`, where what is a `Launch` as JSON.

It says who it has launched in a line of JSON, and then does what it is told to on its standard
input: `close`, or `fork`, which leaves a child that holds all its descriptors.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from pool.process.launch import launch
from pool.process.order import Launch


async def main() -> None:
    said = json.loads(sys.argv[1])
    running = await launch(
        Launch(**{**said, "argv": tuple(said["argv"]), "log": Path(said["log"])})
    )
    answer = {"main": str(running.process), "warden": str(running.warden)}
    print(json.dumps(answer), flush=True)
    loop = asyncio.get_running_loop()
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if line == "close":
            running.close()
            print("closed", flush=True)
        elif line == "fork":
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                signal.pause()
            print(pid, flush=True)


asyncio.run(main())
