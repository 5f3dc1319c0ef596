"""Programs that are hard to end. Run as a script: `trees.py <kind> <folder> [<seconds>]`.

Each process of a tree writes its pid into the folder, in a file named for its part. None outlives
a minute, or as many seconds as are given, so that a test which fails leaves nothing for long.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    FOLDER = Path(sys.argv[2])
    LIFE_S = int(sys.argv[3]) if len(sys.argv) > 3 else 60


def be(part: str) -> None:
    signal.alarm(LIFE_S)
    (FOLDER / f"{part}.new").write_text(str(os.getpid()))
    (FOLDER / f"{part}.new").rename(FOLDER / part)


def sleep() -> None:
    while True:
        time.sleep(60)


def fork(then: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            then()
        finally:
            os._exit(0)
    return pid


def part(name: str, *, stop: bool = False, session: bool = False) -> Callable[[], None]:
    def live() -> None:
        if session:
            os.setsid()
        be(name)
        if stop:
            os.kill(os.getpid(), signal.SIGSTOP)
        sleep()

    return live


def daemon() -> None:
    """Fork twice, as daemons do: the second has no parent here."""
    os.setsid()
    fork(part("daemon"))


def family() -> None:
    fork(part("child"))
    fork(part("session", session=True))
    fork(part("stopped", stop=True))
    os.waitpid(fork(daemon), 0)
    be("main")


def obedient() -> None:
    family()
    sleep()


def stubborn() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    family()
    sleep()


def leaving() -> None:
    """End, and leave a stubborn family behind."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    family()
    for name in ("child", "session", "stopped", "daemon"):
        while not (FOLDER / name).exists():
            time.sleep(0.001)
    os._exit(3)


def hop() -> None:
    """Be another process, in a session of its own, every moment."""
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        if os.fork():
            os._exit(0)
        os.setsid()


def breeding() -> None:
    """Fork while being killed: some hop from pid to pid, some fork in sessions of their own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def breed(session: bool) -> None:
        if session:
            os.setsid()
        signal.alarm(60)
        for _ in range(300):
            fork(sleep_a_while)
            time.sleep(0.002)

    def sleep_a_while() -> None:
        signal.alarm(60)
        sleep()

    fork(hop)
    fork(hop)
    fork(lambda: breed(True))
    fork(lambda: breed(False))
    be("main")
    sleep()


def nameless() -> None:
    """Have a child without the environment, as one that writes its title over it."""

    def live() -> None:
        # A new program, as /proc shows the environment that a program was started with.
        code = f"import os; open({str(FOLDER / 'child')!r}, 'w').write(str(os.getpid()))"
        program = f"{code}\nimport signal, time; signal.alarm(60); time.sleep(60)"
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", program], {})

    fork(live)
    be("main")
    sleep()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
