"""The warden of one managed process: it starts it, keeps its log, and leaves nothing of it.

Purpose: a managed process is its whole tree, and the tree ends when its owner does, however that
ends. The owner cannot see to that: it may be killed with SIGKILL, and what its children have begun
then lives on. So each process has a warden, which is a child of nobody that Ray kills, adopts
every orphan of the tree (``PR_SET_CHILD_SUBREAPER``), and holds one end of a socket pair. End of
file there, or the end of the owner's process, means that the owner is gone.

Whoever starts processes by itself, the user's code in a rank actor or a run, has a *guard* instead:
the same script, for a process that is there already. It does nothing until that one has ended,
however it did, and then ends what is left of what it had started (see `Guard`).

It is a script of the standard library, run as
``python -I -S -E warden.py <descriptor> <identity>``. What it imports is paid for by each process
in memory and in time to start, so that it imports little, and all of it is one file. It must not
import `pool`; `pool.process.pids` imports from here.

Linux only: it needs ``prctl`` and ``/proc``.

Limits: what leaves the tree by asking somebody else to start a process (a container engine, a
batch system, systemd) is not in the tree. What runs as another user cannot be killed. A log on a
file system that hangs stops the warden with it. When the warden itself is killed with SIGKILL, the
kernel kills the main process (``PR_SET_PDEATHSIG``), and the owner removes the rest
(`pool.process.marker`).

Why not a process group, as Ray's own clean-up has it: whoever calls ``setsid`` leaves it. Why not
a cgroup: an ordinary user may not make one on most clusters.

The order comes over the socket: eight bytes of length, then fields that end with a NUL (see
`Order`). Afterwards lines go both ways. From the owner: ``stop <grace_s>``. From the warden::

    warden <pid> <created>            it lives
    failed <step> <errno>             the process was not started; nothing is left
    started <pid> <created>
    exited <code or -> <signal or ->  the main process has ended; its output is in the log
    gone <killed>                     the whole tree has; so many had to be killed
"""

from __future__ import annotations

import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable
else:
    import _signal as signal  # `signal` makes enums of the same: 1 MB and 2 ms for each process

LEFTOVER_GRACE_S = 1.0
"""How long those may still take whom a main process that ended by itself has left behind."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

READ_BYTES = 65_536
"""As much as a pipe holds."""
LAST_READS = 64
"""How often the pipe is read when the main process has ended, before that is reported."""

FIRST_PAUSE_MS = 1
LAST_PAUSE_MS = 100
"""Between two rounds of killing, unless somebody new was seen or a child has ended."""
LONGEST_WAIT_MS = 3_600_000
QUIET_LOOKS = 2
"""So often in a row must a guard find nobody: one look can miss who is forked behind its back."""


# --- what is known of processes -------------------------------------------------------------------


class Seen:
    """One line of /proc: a process as it was seen.

    `created` is in clock ticks since the machine was booted, and never changes; a pid with it names
    one process for good. `is_ended` holds for zombies.
    """

    __slots__ = ("created", "group", "is_ended", "is_stopped", "parent", "pid", "session")

    def __init__(self, pid: int, stat: bytes) -> None:
        # The second field is a name in brackets that may itself hold brackets and blanks.
        fields = stat.rpartition(b")")[2].split()
        self.pid = pid
        # A zombie with threads is a process whose first thread alone has ended.
        self.is_ended = fields[0] in b"ZXx" and int(fields[17]) <= 1
        self.is_stopped = fields[0] == b"T"
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.created = int(fields[19])


def look(pid: int) -> Seen | None:
    """Return what /proc says of a process, None if it is not there."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        stat = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return Seen(pid, stat) if stat else None


def everybody() -> list[int]:
    """Return the pids of all processes, the youngest first as far as pids tell."""
    return sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)


def below(root: int, processes: Iterable[Seen]) -> list[Seen]:
    """Return those of the processes that descend from `root`, zombies too, parents first.

    NB: by the parents' pids, as /proc/<pid>/task/<tid>/children is not in every kernel.
    """
    children: dict[int, list[Seen]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found = list(children.get(root, ()))
    for process in found:
        found += children.get(process.pid, ())
    return found


def hold(pid: int, created: int) -> int | None:
    """Return a descriptor (pidfd) of exactly this process; None if this kernel has none.

    Raises:
        ProcessLookupError: The process is gone; perhaps another has its pid.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        if isinstance(error, ProcessLookupError):
            raise
        descriptor = None  # before Linux 5.3, or a Python built for such
    # Only now: the descriptor is of whoever had the pid when it was opened.
    seen = look(pid)
    if seen is None or seen.created != created or seen.is_ended:
        if descriptor is not None:
            os.close(descriptor)
        raise ProcessLookupError(pid)
    return descriptor


def send(pid: int, created: int, number: int) -> bool:
    """Send a signal to exactly this process.

    Returns:
        False if it is gone.

    Raises:
        PermissionError: It runs as another user.
    """
    try:
        descriptor = hold(pid, created)
    except ProcessLookupError:
        return False
    try:
        if descriptor is None or not hasattr(signal, "pidfd_send_signal"):
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


# --- the log --------------------------------------------------------------------------------------


class Log:
    """Append to a file that is rotated by size: `log`, `log.1`, `log.2` and so on, the oldest last.

    What cannot be written is dropped and counted, and a line in the log says so as soon as one can
    be written again. Nothing is kept in memory.

    Args:
        path: Where it lies.
        max_bytes: How large a file may get.
        backups: How many older files are kept.
    """

    def __init__(self, path: bytes, max_bytes: int, backups: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.backups = backups
        self.dropped = 0
        self._unsaid = 0
        self._reason = ""
        self._descriptor = -1
        self._size = 0
        self._is_file = True

    def open(self) -> None:
        """Open the file, for appending.

        Raises:
            OSError: It cannot be opened.
        """
        # O_NONBLOCK: a pipe that nobody reads must not hold the warden up.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self.path, flags, 0o644)
        self._size = os.fstat(self._descriptor).st_size
        self._is_file = os.fstat(self._descriptor).st_mode & 0o170000 == 0o100000

    def note(self, text: str) -> None:
        """Write a line of the warden's own."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.put(f"--- {when} {text}\n".encode("utf-8", "backslashreplace"))

    def put(self, data: bytes) -> None:
        """Append, and rotate where that is due, between two lines if that can be."""
        if self._unsaid and not self._say_what_was_dropped():
            self._drop(len(data))
            return
        try:
            self._write(data)
        except _NotWritten as failure:
            self._drop(failure.left)
            self._reason = failure.reason

    def _say_what_was_dropped(self) -> bool:
        text = f"\n--- {self._unsaid} bytes of output were dropped: {self._reason}\n"
        try:
            self._write(text.encode())
        except _NotWritten:
            return False
        self._unsaid = 0
        return True

    def _write(self, data: bytes) -> None:
        while data:
            try:
                if self._descriptor < 0:
                    self.open()
                piece = data
                if self._is_file and self._size + len(data) > self.max_bytes:
                    piece = data[: max(0, self.max_bytes - self._size)]
                    if whole := piece.rfind(b"\n") + 1:
                        piece = piece[:whole]
                    elif self._size:
                        self._rotate()
                        continue
                written = os.write(self._descriptor, piece)
            except OSError as error:
                raise _NotWritten(len(data), os.strerror(error.errno or 0)) from None
            self._size += written
            data = data[written:]

    def _rotate(self) -> None:
        try:
            for number in range(self.backups, 0, -1):
                older = self.path + b".%d" % number
                newer = self.path + (b".%d" % (number - 1) if number > 1 else b"")
                if os.path.exists(newer):
                    os.replace(newer, older)
            if not self.backups:
                os.unlink(self.path)
        except OSError:
            # The folder may not be written to, and the file must not grow: its beginning goes.
            os.ftruncate(self._descriptor, 0)
            self._size = 0
        else:
            os.close(self._descriptor)
            self._descriptor = -1
            self.open()

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._unsaid += count


class _NotWritten(Exception):
    def __init__(self, left: int, reason: str) -> None:
        super().__init__(left, reason)
        self.left = left
        self.reason = reason


# --- the order ------------------------------------------------------------------------------------


class Order:
    """What is to be run: the fields of `pool.process.order.Launch`, as bytes.

    Fields, each ended by a NUL: the marker without its last part, the owner's pid and time of
    creation, grace_s, the log's path, max_bytes, backups, the working directory, how many arguments
    there are, those, and the environment. An order without arguments is a guard's; of the rest it
    has the environment's variable LINE, what /proc calls the owner's end of the socket.
    """

    def __init__(self, data: bytes) -> None:
        fields = data.split(b"\0")[:-1]
        (self.marker, owner, created, grace_s, self.log, max_bytes, backups, self.cwd, count) = (
            fields[:9]
        )
        self.identity = self.marker.split(b"|")[0].decode("ascii")
        self.owner = int(owner)
        self.owner_created = int(created)
        self.grace_s = float(grace_s)
        self.max_bytes = int(max_bytes)
        self.backups = int(backups)
        self.argv = fields[9 : 9 + int(count)]
        self.env = dict(pair.split(b"=", 1) for pair in fields[9 + int(count) :])


def _read_order(line: int) -> Order | None:
    """Return the order, None if the owner has thought better of it."""
    data = b""
    length = 8
    while len(data) < length:
        piece = os.read(line, 1 << 20)
        if not piece:
            return None
        data += piece
        if len(data) >= 8:
            length = 8 + int.from_bytes(data[:8], "big")
    # The owner says nothing else before it has heard that the process is started, except to
    # take the order back; then nothing is to be started.
    return Order(data[8:]) if len(data) == length else None


# --- the warden -----------------------------------------------------------------------------------


class Failed(Exception):
    """The process was not started."""

    def __init__(self, step: str, errno: int) -> None:
        super().__init__(step, errno)
        self.step = step
        self.errno = errno


class Warden:
    """Watch one process and its tree until both are gone.

    Args:
        line: The descriptor of the socket to the owner.
        order: What is to be run.
        prctl: The system call of that name.
        oom_score_adj: What the process is to have in its file of that name.
    """

    def __init__(
        self, line: int, order: Order, prctl: Callable[[int, int], int], oom_score_adj: bytes
    ) -> None:
        self._line = line
        self._order = order
        self._prctl = prctl
        self._oom_score_adj = oom_score_adj
        self._log = Log(order.log, order.max_bytes, order.backups)
        self._me = os.getpid()
        self._main = 0
        self._created = 0
        self._output = -1
        self._heard = b""
        self._poll = select.poll()
        self._exit: int | None = None  # minus the signal's number, if one ended it
        self._ended_at = 0.0
        self._is_gone = False
        self._stopped_by = ""
        self._deadline: float | None = None
        self._killed: set[tuple[int, int]] = set()
        self._pause_ms = FIRST_PAUSE_MS

    def run(self) -> None:
        """Start the process, and return when nothing of it is left."""
        seen = look(self._me)
        if seen is None:
            self._say("failed proc 0")
            return
        self._say(f"warden {self._me} {seen.created}")
        self._order.env[b"POOL_PROCESS"] = b"%s|%d:%d" % (
            self._order.marker,
            self._me,
            seen.created,
        )
        try:
            self._open_log()
            owner = self._watch_owner()
            wake = self._watch_children()
            self._start()
        except Failed as failure:
            self._say(f"failed {failure.step} {failure.errno}")
            return
        self._say(f"started {self._main} {self._created}")
        self._poll.register(self._line, select.POLLIN)
        self._poll.register(self._output, select.POLLIN)
        while not self._is_gone:
            for descriptor, _ in self._poll.poll(self._wait_ms()):
                if descriptor == self._output:
                    self._take_output()
                elif descriptor == self._line:
                    self._listen()
                elif descriptor == wake:
                    os.read(wake, 4096)
                elif descriptor == owner:
                    self._poll.unregister(owner)
                    self._stop("owner", self._order.grace_s)
            self._reap()
            if self._deadline is not None and not self._is_gone:
                self._kill_if_due(self._deadline)
        self._finish()

    def note(self, text: str) -> None:
        """Write a line into the process's log."""
        self._log.note(f"{self._order.identity}: {text}")

    # starting

    def _open_log(self) -> None:
        try:
            os.unlink(self._order.log + b".exit")
        except OSError:
            pass
        try:
            self._log.open()
        except OSError as error:
            # A full disk is no reason not to run. The log is opened as soon as it can be.
            if error.errno not in _FULL:
                raise Failed("log", error.errno or 0) from None
        words = b" ".join(self._order.argv).decode("utf-8", "backslashreplace")
        words = words.replace("\n", "\\n")
        self.note(words[:1000])

    def _watch_owner(self) -> int:
        # The end of the socket alone will not do: a child that the owner forked without exec holds
        # a copy of the owner's end, and keeps it open.
        try:
            owner = hold(self._order.owner, self._order.owner_created)
        except ProcessLookupError:
            raise Failed("owner", 0) from None
        if owner is None:
            return -1
        self._poll.register(owner, select.POLLIN)
        return owner

    def _watch_children(self) -> int:
        wake, ring = os.pipe()
        os.set_blocking(ring, False)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll.register(wake, select.POLLIN)
        return wake

    def _start(self) -> None:
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        failure, report = os.pipe()
        try:
            self._main = os.fork()
        except OSError as error:
            raise Failed("fork", error.errno or 0) from None
        if self._main == 0:
            self._become(output, report)
        os.close(output)
        os.close(report)
        seen = look(self._main)
        assert seen is not None
        self._created = seen.created
        # A program on a file system that hangs must not keep waiting whoever stops it, or dies.
        early = select.poll()
        early.register(failure, select.POLLIN)
        early.register(self._line, select.POLLIN)
        while failure not in {descriptor for descriptor, _ in early.poll()}:
            os.kill(self._main, signal.SIGKILL)
            early.unregister(self._line)
        said = os.read(failure, 100).split()
        os.close(failure)
        if said:
            os.waitpid(self._main, 0)
            raise Failed(said[0].decode(), int(said[1]))

    def _become(self, output: int, report: int) -> None:
        """Be the process, in the child. Does not return."""
        step = b"start"
        try:
            os.setsid()
            self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._me:
                os._exit(127)  # the warden died before it was said
            _write_file("/proc/self/oom_score_adj", self._oom_score_adj)
            for number in range(1, signal.NSIG):
                try:
                    signal.signal(number, signal.SIG_DFL)
                except (OSError, ValueError):
                    pass
            signal.set_wakeup_fd(-1)
            os.dup2(output, 1)
            os.dup2(output, 2)
            step = b"cwd"
            os.chdir(self._order.cwd)
            step = b"exec"
            _execute(self._order.argv, self._order.env)
        except OSError as error:
            os.write(report, b"%s %d" % (step, error.errno or 0))
        finally:
            os._exit(127)

    # listening

    def _say(self, text: str) -> None:
        try:
            os.write(self._line, text.encode() + b"\n")
        except OSError:
            pass  # the owner is gone, and the end of the line will say so

    def _listen(self) -> None:
        try:
            data = os.read(self._line, 4096)
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(self._line)
            self._stop("owner", self._order.grace_s)
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._stop("asked", float(line.split()[1]))

    def _take_output(self, reads: int = 1) -> None:
        for _ in range(reads):
            if self._output < 0:
                return
            try:
                data = os.read(self._output, READ_BYTES)
            except BlockingIOError:
                return
            if data:
                self._log.put(data)
            else:
                self._poll.unregister(self._output)
                os.close(self._output)
                self._output = -1

    # the end

    def _reap(self) -> None:
        """Bury the dead: the main process, and orphans. Without a child nobody is left at all."""
        was_running = self._exit is None
        try:
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self._main and self._exit is None:
                    self._exit = os.waitstatus_to_exitcode(found[1])
        except ChildProcessError:
            self._is_gone = True
        if not was_running or self._exit is None:
            return
        self._ended_at = time.time()
        self._take_output(LAST_READS)
        self._write_exit()
        code, number = self._code_and_signal()
        self._say(f"exited {_or(code, '-')} {_or(number, '-')}")
        if self._deadline is None and not self._is_gone:
            self._stop("", min(self._order.grace_s, LEFTOVER_GRACE_S))

    def _code_and_signal(self) -> tuple[int | None, int | None]:
        if self._exit is None or self._exit >= 0:
            return self._exit, None
        return None, -self._exit

    def _stop(self, by: str, grace_s: float) -> None:
        """Ask the tree to end, once, and see that it does within the shortest grace given."""
        deadline = time.monotonic() + grace_s
        if self._deadline is not None:
            self._deadline = min(self._deadline, deadline)
            return
        self._deadline = deadline
        self._stopped_by = by
        if grace_s > 0:
            for process in self._tree():
                self._send(process, signal.SIGTERM)
                if process.is_stopped:
                    self._send(process, signal.SIGCONT)

    def _wait_ms(self) -> float | None:
        if self._deadline is None:
            return None
        left_s = self._deadline - time.monotonic()
        return self._pause_ms if left_s <= 0 else min(left_s * 1000 + 1, LONGEST_WAIT_MS)

    def _kill_if_due(self, deadline: float) -> None:
        if time.monotonic() < deadline:
            return
        known = len(self._killed)
        # Orphans at once: who forks and ends all the time must not outrun the killer.
        left = self._tree(self._kill)
        # Then whole groups: no fork gets past a signal to its group. The number of a group that
        # has a child of ours in it cannot be another's, as that child waits for us to bury it.
        # And none of these has a stranger in it, as their sessions have all begun below us.
        for group in {one.group for one in left if one.parent == self._me != one.group}:
            try:
                os.killpg(group, signal.SIGKILL)
            except OSError:
                pass  # nobody in it may be killed
        for process in left:
            self._kill(process)
        is_new = len(self._killed) > known
        self._pause_ms = FIRST_PAUSE_MS if is_new else min(2 * self._pause_ms, LAST_PAUSE_MS)

    def _kill(self, process: Seen) -> None:
        self._send(process, signal.SIGKILL)
        self._killed.add((process.pid, process.created))

    def _send(self, process: Seen, number: int) -> None:
        try:
            send(process.pid, process.created, number)
        except PermissionError:
            pass  # it runs as another user

    def _tree(self, each: Callable[[Seen], None] | None = None) -> list[Seen]:
        """Return who lives below, parents first, and tell `each` about children of ours at once."""
        processes = []
        for pid in everybody():
            process = look(pid)
            if process is None:
                continue
            processes.append(process)
            if each is not None and process.parent == self._me and not process.is_ended:
                each(process)
        return [process for process in below(self._me, processes) if not process.is_ended]

    def _finish(self) -> None:
        self._take_output(LAST_READS)
        self._write_exit()
        self._say(f"gone {len(self._killed)}")

    def _write_exit(self) -> None:
        """Leave what is known for whoever asks when all of us are dead. Every value is plain."""
        code, number = self._code_and_signal()
        by = f'"{self._stopped_by}"' if self._stopped_by else None
        text = (
            f'{{"identity": "{self._order.identity}", "pid": {self._main}, '
            f'"created": {self._created}, "code": {_or(code, "null")}, '
            f'"signal": {_or(number, "null")}, "ended_at": {self._ended_at:.3f}, '
            f'"stopped_by": {_or(by, "null")}, "is_gone": {str(self._is_gone).lower()}, '
            f'"killed": {len(self._killed)}, "dropped_bytes": {self._log.dropped}}}\n'
        )
        path = self._order.log + b".exit"
        if _write_file(path + b".new", text.encode()):
            try:
                os.replace(path + b".new", path)
            except OSError:
                pass


# --- the guard ------------------------------------------------------------------------------------


class Guard:
    """Wait for the end of a process, and leave nothing of what it had started.

    Its children have its mark, or that of a warden which it had started; those that were forked,
    and have called no other program, have its end of the line. Who is found is asked to end, and
    killed when the grace is over. It takes what a warden takes, all in all: a look at /proc, a few
    times.

    Args:
        line: The descriptor of the socket to the process.
        order: Whose guard it is, and the grace.
    """

    def __init__(self, line: int, order: Order) -> None:
        self._line = line
        self._order = order
        self._me = os.getpid()
        self._of_owner = order.marker.split(b"|")[1:3]
        self._end_of_line = order.env[b"LINE"].decode("ascii")

    def run(self) -> None:
        """Return when the process has ended, and nothing of it is left."""
        seen = look(self._me)
        try:
            owner = hold(self._order.owner, self._order.owner_created)
        except ProcessLookupError:
            return
        if seen is None:
            os.write(self._line, b"failed proc 0\n")
            return
        os.write(self._line, b"warden %d %d\n" % (self._me, seen.created))
        self._wait_for_end(owner)
        self._clear()

    def _wait_for_end(self, owner: int | None) -> None:
        if owner is not None:
            poll = select.poll()
            poll.register(owner, select.POLLIN)
            poll.poll()
        # What has ended may be a zombie: it runs no more.
        while (seen := look(self._order.owner)) is not None:
            if seen.created != self._order.owner_created or seen.is_ended:
                break
            time.sleep(1)

    def _clear(self) -> None:
        asked: set[tuple[int, int]] = set()
        until = time.monotonic() + self._order.grace_s
        pause_ms = FIRST_PAUSE_MS
        quiet = 0
        while quiet < QUIET_LOOKS:
            left = self._left()
            quiet = 0 if left else quiet + 1
            for process in left:
                key = (process.pid, process.created)
                try:
                    if time.monotonic() >= until:
                        send(*key, signal.SIGKILL)
                    elif key not in asked:
                        asked.add(key)
                        send(*key, signal.SIGTERM)
                        if process.is_stopped:
                            send(*key, signal.SIGCONT)
                except PermissionError:
                    pass
            pause_ms = min(2 * pause_ms, LAST_PAUSE_MS)
            time.sleep(pause_ms / 1000)

    def _left(self) -> list[Seen]:
        left = []
        for pid in everybody():
            seen = look(pid)
            if seen is None or seen.is_ended or pid == self._me:
                continue
            if seen.created < self._order.owner_created:
                continue  # none of its children
            try:
                if os.stat(f"/proc/{pid}").st_uid == os.geteuid() and self._is_of_owner(pid):
                    left.append(seen)
            except OSError:
                pass  # it has ended meanwhile, or is not ours to look at
        return left

    def _is_of_owner(self, pid: int) -> bool:
        for entry in _read_file(f"/proc/{pid}/environ", 1 << 20).split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == b"POOL_PROCESS" and value.split(b"|")[1:3] == self._of_owner:
                return True
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            try:
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") == self._end_of_line:
                    return True
            except OSError:
                continue  # closed meanwhile
        return False


def _or(value: object, otherwise: str) -> str:
    return otherwise if value is None else str(value)


_FULL = (28, 122, 27)  # ENOSPC, EDQUOT, EFBIG; the module `errno` is not worth its import


def _write_file(path: str | bytes, data: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError:
        return False
    try:
        return os.write(descriptor, data) == len(data)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _read_file(path: str, max_bytes: int = 4096) -> bytes:
    data = b""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return data
    try:
        while len(data) < max_bytes and (piece := os.read(descriptor, max_bytes)):
            data += piece
    except OSError:
        pass  # whose it is has ended
    finally:
        os.close(descriptor)
    return data


def _execute(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """Become the program, found as a shell finds it: on the PATH that it is given itself.

    Raises:
        OSError: It cannot be run. Where no folder has it, that it is not there; but if one has it
            and it may not be run, that.
    """
    program = argv[0]
    if b"/" in program:
        os.execve(program, argv, env)
    refusal: OSError = FileNotFoundError(2, "")
    for folder in env.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":"):
        try:
            os.execve(os.path.join(folder or b".", program), argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            refusal = error
    raise refusal


def _system() -> Callable[[int, int], int]:
    """Return `prctl`.

    Raises:
        Failed: There is none: this is not Linux, or this Python has no ctypes.
    """
    try:
        import ctypes

        function = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        raise Failed("prctl", 0) from None

    def prctl(option: int, value: int) -> int:
        return int(function(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3))

    return prctl


def main(line: int) -> None:
    """Be a warden, in a process made for it."""
    # Twice forked: Ray kills the direct children of a worker that it kills.
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.set_inheritable(line, False)
    os.dup2(0, 2)  # whoever has started us waits for the end of this pipe
    for number in range(1, signal.NSIG):
        if number != signal.SIGCHLD:
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the launcher has blocked them all till now
    _write_file("/proc/self/comm", b"pool-warden")
    # Ray asks the kernel to kill its workers first when memory runs out; the warden, never.
    oom_score_adj = _read_file("/proc/self/oom_score_adj")
    _write_file("/proc/self/oom_score_adj", b"0")
    order = _read_order(line)
    if order is None:
        return
    if not order.argv:
        _write_file("/proc/self/comm", b"pool-guard")
        Guard(line, order).run()
        return
    try:
        prctl = _system()
        if prctl(PR_SET_CHILD_SUBREAPER, 1):
            raise Failed("prctl", 0)
    except Failed as failure:
        os.write(line, f"failed {failure.step} {failure.errno}\n".encode())
        return
    warden = Warden(line, order, prctl, oom_score_adj)
    try:
        warden.run()
    except BaseException as error:
        warden.note(f"the warden broke, and the process is killed: {error!r}")
        raise


if __name__ == "__main__":
    main(int(sys.argv[1]))
    os._exit(0)  # at once: its owner waits for its end
