"""A private Redis: nothing on disk, because it is never the only copy of anything."""

import socket
from pathlib import Path

from infra.ops import programs
from infra.ops.errors import OpsError
from infra.ops.ports import free_port
from infra.ops.processes import ProcessId, spawn, stopped_on_error, wait_until

DATABASES = 4096
"""Numbered databases, so that every test can have one of its own."""


def start(folder: Path, *, password: str, port: int | None, log: Path) -> tuple[ProcessId, int]:
    """Start Redis and return its process and port once it answers; raises OpsError."""
    program = programs.find_redis()
    if program is None:
        message = "Redis is not installed"
        raise OpsError(message)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = free_port(port)
    config = folder / "redis.conf"
    config.touch(mode=0o600)  # the password is in it, and would be in the process list as an argument
    config.write_text(
        f'bind 127.0.0.1\nport {chosen}\nrequirepass {password}\nsave ""\nappendonly no\ndatabases {DATABASES}\n'
        f"dir {folder.resolve()}\nmaxmemory 256mb\nmaxmemory-policy allkeys-lru\n",
        encoding="utf-8",
    )
    process = spawn([str(program), str(config.resolve())], log=log)
    with stopped_on_error(process):
        wait_until(lambda: _answers(chosen, password), timeout_s=30, what="the start of Redis", process=process, log=log)
    return process, chosen


def _answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as link:
            link.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            with link.makefile("rb") as replies:
                return b"+PONG" in replies.read()
    except OSError:
        return False
