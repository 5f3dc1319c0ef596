"""Start the warden of a process, in a thread: starting a program can block for long."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import importlib.util
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TypeVar, cast

from pool.errors import LaunchFailed
from pool.process import marker, warden
from pool.process.order import Launch
from pool.process.why_not import explain

T = TypeVar("T")

WARDEN_ENV = ("LD_LIBRARY_PATH", "PATH", marker.VARIABLE)
"""What a warden gets of this process's environment: the mark too, if that is in a tree itself."""


def start_warden(
    spec: Launch, order: bytes, ours: socket.socket, theirs: socket.socket
) -> LaunchFailed | None:
    """Start a warden and hand the order over. Blocks; in a thread of its own.

    Args:
        spec: What it is to run.
        order: The same, as the warden reads it.
        ours: This end of its line.
        theirs: The other end, which is closed here.

    Returns:
        Why it could not be started, if so.
    """
    try:
        spec.log.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        theirs.close()
        # "File exists" is said where a file is in the place of the folder.
        return explain(spec, "log", errno.ENOTDIR if error.errno == errno.EEXIST else error.errno)
    try:
        spawn(spec.identity, order, ours, theirs)
    except OSError as error:
        return LaunchFailed(spec.argv[0], error.strerror or str(error), error.errno)
    return None


def spawn(identity: str, order: bytes, ours: socket.socket, theirs: socket.socket) -> None:
    """Start a warden, or a guard, and hand the order over. Blocks; in a thread of its own.

    Args:
        identity: What it is called in `ps`.
        order: See `pool.process.warden.Order`.
        ours: This end of its line.
        theirs: The other end, which is closed here.

    Raises:
        OSError: It could not be started.
    """
    # The warden inherits what this thread blocks, so no signal to a group hits it as it starts.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    argv = [sys.executable or "python3", "-I", "-S", "-E", _script()]
    try:
        with theirs:
            process = subprocess.Popen(
                [*argv, str(theirs.fileno()), identity],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env={name: os.environ[name] for name in WARDEN_ENV if name in os.environ},
                start_new_session=True,
            )
    except OSError as error:
        raise OSError(error.errno, f"its warden cannot be started: {error}") from error
    with process:
        with contextlib.suppress(OSError):  # what it says on stderr tells why
            ours.sendall(order, socket.MSG_NOSIGNAL)
        # The first process ends as soon as it has forked, and the second closes the pipe then.
        said = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode != 0:
        raise OSError(f"its warden, {' '.join(argv)}, ended ({process.returncode}): {said}")


@functools.cache
def _script() -> str:
    """Return the warden's file: compiled if there is such, as that starts some ms faster."""
    source = os.path.abspath(warden.__file__)
    try:
        compiled = importlib.util.cache_from_source(source)
        with open(compiled, "rb") as file:
            header = file.read(16)
        seen = os.stat(source)
    except (OSError, NotImplementedError):
        return source
    # Run as a script, it is not compared with its source; so that is done here, as by an import.
    stamp = struct.pack("<4sIII", importlib.util.MAGIC_NUMBER, 0, int(seen.st_mtime), seen.st_size)
    return compiled if header == stamp else source


def aside(loop: asyncio.AbstractEventLoop, function: Callable[[], T]) -> asyncio.Future[T]:
    """Run something that blocks in a thread that ends with it."""
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def body() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=body, name="pool-process", daemon=True).start()
    return future
