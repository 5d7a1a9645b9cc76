"""A private PostgreSQL: made in a folder, started on a loopback port, stopped by pid."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from infra.ops import programs
from infra.ops.errors import OpsError
from infra.ops.ports import free_port
from infra.ops.processes import ProcessId, spawn, stopped_on_error, wait_until

ADMIN = "sla_admin"
"""The superuser of a private PostgreSQL."""

_STATE = Path("/var/lib/sla-monitor")
_FAST_AND_FORGETFUL = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


def start(folder: Path, *, password: str, port: int | None, durable: bool, log: Path) -> tuple[ProcessId, int]:
    """Start PostgreSQL on data in `folder` (made when absent) and return its process and port once it takes connections.

    `durable=False` gives up the safety of a power cut for speed: for tests only. Raises OpsError.
    """
    bin_folder = programs.find_postgres()
    if bin_folder is None:
        message = "PostgreSQL is not installed"
        raise OpsError(message)
    user = _unprivileged()
    data = _data_folder(folder, user)
    if not (data / "PG_VERSION").exists():
        _initialise(bin_folder, data, user, password)
    _remove_stale_pid_file(data)
    chosen = free_port(port)
    options = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=400", "-c", "timezone=UTC")
    command = [str(bin_folder / "postgres"), "-D", str(data), "-p", str(chosen), *options, *(() if durable else _FAST_AND_FORGETFUL)]
    process = spawn(command, log=log, user=user, cwd=Path("/"))
    with stopped_on_error(process):
        wait_until(lambda: _accepts(bin_folder, chosen), timeout_s=60, what="the start of PostgreSQL", process=process, log=log)
    return process, chosen


STOP_SIGNAL = signal.SIGINT
"""PostgreSQL's fast shutdown: ends the sessions, writes a checkpoint, goes."""


def erase(folder: Path) -> None:
    """Remove the data, wherever it lies."""
    data = folder / "data"
    target = data.resolve()
    if data.is_symlink():
        data.unlink()
    shutil.rmtree(target, ignore_errors=True)


def _unprivileged() -> str | None:
    """Return the user to change to: PostgreSQL refuses to run as root. None if we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    message = "PostgreSQL cannot run as root and this machine has no user `postgres`; run this as another user"
    raise OpsError(message)


def _data_folder(folder: Path, user: str | None) -> Path:
    """Return where the data lies: in the folder, or behind a link if the server's user cannot get there."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if user is None:
        data.mkdir(mode=0o700, exist_ok=True)
        return data
    if data.exists():
        return data.resolve()
    owner = pwd.getpwnam(user)
    target = data
    if not all(_may_pass(parent, owner) for parent in [folder.resolve(), *folder.resolve().parents]):
        target = _STATE / f"postgres-{secrets.token_hex(6)}"
        data.unlink(missing_ok=True)
        data.symlink_to(target)
    target.mkdir(parents=True)
    target.chmod(0o700)
    os.chown(target, owner.pw_uid, owner.pw_gid)
    return target


def _may_pass(folder: Path, user: pwd.struct_passwd) -> bool:
    stat = folder.stat()
    return bool(stat.st_mode & 0o001) or (stat.st_uid == user.pw_uid and bool(stat.st_mode & 0o100))


def _initialise(bin_folder: Path, data: Path, user: str | None, password: str) -> None:
    password_file = data.parent / f"{data.name}.password"
    password_file.touch(mode=0o600)
    try:
        password_file.write_text(password, encoding="utf-8")
        if user is not None:
            shutil.chown(password_file, user)
        command: list[str | Path] = [
            bin_folder / "initdb",
            "-D",
            data,
            "-U",
            ADMIN,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-A",
            "scram-sha-256",
        ]
        done = subprocess.run(
            [*command, f"--pwfile={password_file}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            cwd="/",
        )
    finally:
        password_file.unlink()
    if done.returncode != 0:
        message = f"initdb failed: {done.stderr.strip().splitlines()[-1:]}"
        raise OpsError(message)


def _remove_stale_pid_file(data: Path) -> None:
    """After a crash of the machine the pid in the file may be a stranger's, for which PostgreSQL would refuse to start."""
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text(encoding="utf-8").split()[0])
    command_line = Path(f"/proc/{pid}/cmdline")
    if command_line.exists() and str(data).encode() in command_line.read_bytes():
        message = f"PostgreSQL already runs on {data} as process {pid}"
        raise OpsError(message)
    pid_file.unlink()


def _accepts(bin_folder: Path, port: int) -> bool:
    command: list[str | Path] = [bin_folder / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-d", "postgres"]
    return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0
