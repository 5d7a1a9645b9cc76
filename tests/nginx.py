"""A private nginx for tests and benches: its own folder, pid and loopback ports, gone when the block is left."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.ops import programs
from infra.ops.ports import free_port
from infra.ops.processes import ProcessId, spawn, stop, stopped_on_error, wait_until

_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  default_type text/plain;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{config}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx: its ports in the order of the configuration's PORT0, PORT1, …, its folder and its process."""

    ports: tuple[int, ...]
    folder: Path
    process: ProcessId


@contextmanager
def running_nginx(config: str) -> Iterator[Nginx]:
    """Run nginx with `config` inside of its http block until the block is left.

    In it PORT0 to PORT9 stand for free loopback ports, and FOLDER for a folder that exists. Skips the test where nginx is not installed.
    """
    program = programs.find_program("nginx")
    if program is None:
        pytest.skip("nginx is not installed: sla-monitor install nginx")
    folder = Path(tempfile.mkdtemp(prefix="sla-nginx-"))
    ports = tuple(free_port() for number in range(10) if f"PORT{number}" in config)
    for number, port in enumerate(ports):
        config = config.replace(f"PORT{number}", str(port))
    file = folder / "nginx.conf"
    file.write_text(_CONFIG.format(folder=folder, config=config.replace("FOLDER", str(folder))), encoding="utf-8")
    log = folder / "error.log"
    try:
        process = spawn([str(program), "-e", str(log), "-p", str(folder), "-c", str(file)], log=log)
        with stopped_on_error(process):
            wait_until(lambda: all(_listens(port) for port in ports), timeout_s=20, what="the start of nginx", process=process, log=log)
        try:
            yield Nginx(ports, folder, process)
        finally:
            stop(process, timeout_s=5)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
