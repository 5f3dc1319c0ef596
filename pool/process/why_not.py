"""Why a process could not be started, in words that say what to do."""

from __future__ import annotations

import os
import shutil
import sys

from pool.errors import LaunchFailed
from pool.process.order import Launch


def explain(spec: Launch, step: str, number: int | None) -> LaunchFailed:
    """Return the error that says why a launch failed.

    Args:
        spec: What was to be run.
        step: What the warden could not do.
        number: The system's error number, if there was one.
    """
    reason = os.strerror(number) if number else ""
    return LaunchFailed(spec.argv[0], _detail(spec, step, reason), number or None)


def _detail(spec: Launch, step: str, reason: str) -> str:
    program = spec.argv[0]
    folder = os.path.abspath(spec.cwd or "")
    match step:
        case "proc" | "prctl":
            return (
                "a managed process needs Linux with /proc mounted, and a Python that has ctypes "
                f"({sys.executable} -c 'import ctypes' tells)"
            )
        case "owner":
            return "this process was gone before its warden had looked"
        case "log":
            return f"its log {spec.log.absolute()} cannot be written: {reason}; give another"
        case "cwd":
            return (
                f"its working directory {folder} cannot be entered on this node: {reason}; make it "
                "there, or give another cwd"
            )
        case "fork":
            return (
                f"no process could be made: {reason}; `ulimit -u` and the cgroup's pids.max say "
                "how many there may be"
            )
        case "exec":
            return _why_not_run(spec, program, folder, reason)
        case _:
            return f"{reason or 'no reason was given'} (while it was being set up)"


def _why_not_run(spec: Launch, program: str, folder: str, reason: str) -> str:
    if "/" in program:
        path = os.path.join(folder, program)
    else:
        search = spec.env.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        found = shutil.which(program, os.F_OK, search)
        if found is None:
            return (
                f"no such program on the PATH that it was given, {search!r}; install it on this "
                "node, give its full path, or add its folder to PATH in env"
            )
        path = found
    if not os.path.exists(path):
        return f"there is no {path} on this node; install it there, or give the path that it has"
    if os.path.isdir(path):
        return f"{path} is a folder; name a program"
    if not os.access(path, os.X_OK):
        return f"{path} may not be run ({reason}); chmod +x it, or start it by its interpreter"
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        first = b""
    if first.startswith(b"#!"):
        wanted = first[2:].decode(errors="replace").strip()
        return (
            f"{path} asks in its first line for {wanted!r}, and that fails: {reason}; install "
            "that, or start the script by an interpreter that is there"
        )
    return f"{path} cannot be run: {reason}; is it a program, and made for this kind of machine?"
