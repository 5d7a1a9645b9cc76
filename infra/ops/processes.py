"""Processes that outlive the one that started them: known by pid and start time, waited for, and stopped with a deadline.

A pid alone may have been given to a stranger in the meantime; together with the start time of the kernel's
process table it cannot. Linux only, by /proc.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.ops.errors import OpsError

POLL_S = 0.05
"""How often a condition is looked at while waiting for it."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, told apart from a later one with the same pid."""

    pid: int
    started: str

    def __str__(self) -> str:
        """Return the form that state files hold."""
        return f"{self.pid}:{self.started}"

    @classmethod
    def parse(cls, text: str) -> "ProcessId":
        """Read what `str` wrote."""
        pid, _, started = text.partition(":")
        return cls(int(pid), started)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on (index 0), or None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def identify(pid: int) -> ProcessId:
    """Return the identity of a process that runs; raises OpsError if it does not."""
    fields = _stat(pid)
    if fields is None:
        message = f"process {pid} ended while it was being started"
        raise OpsError(message)
    return ProcessId(pid, fields[19])


def alive(process: ProcessId) -> bool:
    """Whether the process runs. One that ended and was not yet collected by its parent counts as ended."""
    fields = _stat(process.pid)
    return fields is not None and fields[19] == process.started and fields[0] not in "ZX"


def of_session(session: int) -> Iterator[ProcessId]:
    """Yield what runs in a session: a server and what it started."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        fields = _stat(int(entry.name))
        if fields is not None and fields[3] == str(session) and fields[0] not in "ZX":
            yield ProcessId(int(entry.name), fields[19])


def spawn(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, user: str | None = None, cwd: Path | None = None
) -> ProcessId:
    """Start a program detached, in a session of its own, with its output appended to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    identity = identify(child.pid)
    # The handle is let go of on purpose: whoever stops the process later may be another program.
    child.returncode = 0
    return identity


def collect(pid: int) -> None:
    """Take the exit status of an own child, if it is one and has ended, so that no zombie stays."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def send(process: ProcessId, what: signal.Signals) -> None:
    """Send a signal to exactly this process; nothing happens if it is gone."""
    if alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, what)


def wait_until(
    condition: Callable[[], bool], *, timeout_s: float, what: str, process: ProcessId | None = None, log: Path | None = None
) -> None:
    """Return once the condition holds; raises OpsError after the deadline, or as soon as the process it depends on has ended."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        ended = process is not None and not alive(process)
        if ended or time.monotonic() > deadline:
            why = "its process ended" if ended else f"not within {timeout_s:.0f} s"
            hint = f"; the end of {log}: {_tail(log)}" if log is not None and log.exists() else ""
            message = f"{what} did not happen: {why}{hint}"
            raise OpsError(message)
        time.sleep(POLL_S)


def stop(process: ProcessId, *, timeout_s: float, how: signal.Signals = signal.SIGTERM) -> bool:
    """Stop a process and what is left of its session; returns whether it went by itself within the deadline."""
    send(process, how)
    graceful = True
    try:
        wait_until(lambda: _gone(process), timeout_s=timeout_s, what="the end")
    except OpsError:
        graceful = False
    # The pid may be a stranger's by now, and then so is the session.
    theirs = [] if _taken_over(process) else list(of_session(process.pid))
    for rest in [process, *theirs]:
        send(rest, signal.SIGKILL)
    wait_until(
        lambda: _gone(process) and not any(alive(one) for one in theirs),
        timeout_s=10,
        what=f"the end of process {process.pid} after SIGKILL",
    )
    return graceful


@contextlib.contextmanager
def stopped_on_error(process: ProcessId) -> Iterator[None]:
    """Stop the process if the block fails: half a start leaves nothing behind."""
    try:
        yield
    except BaseException:
        stop(process, timeout_s=5)
        raise


def _taken_over(process: ProcessId) -> bool:
    fields = _stat(process.pid)
    return fields is not None and fields[19] != process.started


def _gone(process: ProcessId) -> bool:
    collect(process.pid)
    return not alive(process)


def _tail(log: Path, lines: int = 3) -> str:
    """Return the last lines of a log in one line."""
    return " | ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:])
