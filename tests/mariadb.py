"""A private MariaDB: one per test run, with a root password of its own and TLS."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymysql

from infra.ops import programs
from infra.ops.ports import free_port
from infra.ops.processes import wait_until
from tests.certificates import Certificate


@dataclass(frozen=True, slots=True)
class Mariadb:
    """Where it listens, and who may sign in: `user`, who may do everything in the database `watched`."""

    port: int
    user: str
    password: str
    certificate: Certificate
    folder: Path

    @contextmanager
    def presenting(self, certificate: Certificate) -> Iterator[None]:
        """Have it show another certificate until this is left."""
        self._present(certificate)
        try:
            yield
        finally:
            self._present(self.certificate)

    def _present(self, certificate: Certificate) -> None:
        _copy(certificate, self.folder)
        with pymysql.connect(host="127.0.0.1", port=self.port, user=self.user, password=self.password) as link, link.cursor() as cursor:
            cursor.execute("flush ssl")


@contextmanager
def running_mariadb(certificate: Certificate) -> Iterator[Mariadb]:
    """Run a server until this is left."""
    programs.ensure(["mariadb"])
    folder = Path(tempfile.mkdtemp(prefix="sla-mariadb-", dir="/var/tmp"))  # a socket's path must be short
    try:
        port, password = free_port(), secrets.token_hex(12)
        as_root = ["--user=root"] if os.geteuid() == 0 else []
        data = folder / "data"
        install = [str(_program("mariadb-install-db")), "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        subprocess.run([*install, "--skip-test-db", *as_root], check=True, capture_output=True, timeout=120)
        first = folder / "first.sql"
        first.touch(mode=0o600)
        first.write_text(
            "create database watched;\ncreate table watched.t (a int);"
            f"\ncreate user 'watcher'@'%' identified by '{password}';\ngrant all on watched.* to 'watcher'@'%';"
            "\ngrant reload, process on *.* to 'watcher'@'%';\n",
            encoding="utf-8",
        )
        command = [str(_program("mariadbd")), "--no-defaults", f"--datadir={data}", f"--socket={folder / 's'}", f"--init-file={first}"]
        command += [f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", *as_root]
        command += ["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", f"--pid-file={folder / 'pid'}"]
        _copy(certificate, folder)
        command += [f"--ssl-cert={folder / 'chain.pem'}", f"--ssl-key={folder / 'key.pem'}"]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                wait_until(lambda: _greets(port), timeout_s=60, what="the start of MariaDB")
                yield Mariadb(port, "watcher", password, certificate, folder)
            finally:
                process.terminate()
                process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(certificate: Certificate, folder: Path) -> None:
    (folder / "chain.pem").write_text(certificate.chain, encoding="ascii")
    (folder / "key.pem").write_text(certificate.key, encoding="ascii")


def _program(name: str) -> Path:
    found = programs.find_program(name)
    assert found is not None, f"{name} is not installed"
    return found


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as link:
            return b"MariaDB" in link.recv(200)
    except OSError:
        return False
