"""Where the servers' programs are, and their installation from Debian's packages when they are missing.

Installing never starts a system service: what we need are the programs, run privately.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from infra.ops.errors import OpsError

PACKAGES = {
    "postgresql": "postgresql",
    "rabbitmq": "rabbitmq-server",
    "redis": "redis-server",
    "chromium": "chromium",
    "nginx": "nginx-light",
    "mariadb": "mariadb-server",
    "dnsmasq": "dnsmasq-base",
    "blackbox": "prometheus-blackbox-exporter",
}
"""Debian's package for each program that we run: the product's servers, then what tests and benches compare and talk to."""

_LOCK = Path("/var/lock/sla-monitor-install.lock")
_POLICY = Path("/usr/sbin/policy-rc.d")
_CLUSTERS = Path("/etc/postgresql-common/createcluster.conf")
_SYSTEMD = Path("/run/systemd/system")
_POSTGRES_FOLDERS = (Path("/usr/lib/postgresql"), Path("/usr/local/lib/postgresql"), Path("/opt/homebrew/opt"))
# Debian's /usr/sbin/rabbitmq-server changes to its system user; the script behind it runs as whoever calls it.
_RABBITMQ = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server")
_OUTSIDE_PATH = "/usr/sbin:/usr/local/sbin:/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/bin"


def find_postgres() -> Path | None:
    """Return the folder of the newest PostgreSQL programs on this machine."""
    found = [folder for root in _POSTGRES_FOLDERS for folder in root.glob("*/bin") if (folder / "postgres").exists()]
    if found:
        return max(found, key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.parent.name)] or [0])
    program = _which("postgres")
    return None if program is None else Path(program).resolve().parent


def find_rabbitmq() -> Path | None:
    """Return the server's own start script, not a distribution's wrapper around it."""
    for candidate in _RABBITMQ:
        if Path(candidate).exists():
            return Path(candidate)
    program = _which("rabbitmq-server")
    return None if program is None else Path(program)


def find_epmd() -> Path | None:
    """Return Erlang's port mapper."""
    found = sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))
    program = _which("epmd")
    return found[-1] if found else None if program is None else Path(program)


def find_redis() -> Path | None:
    """Return redis-server, or valkey-server, which speaks the same protocol."""
    program = _which("redis-server") or _which("valkey-server")
    return None if program is None else Path(program)


def find_chromium() -> Path | None:
    """Return a Chromium for the browser tests."""
    program = _which("chromium") or _which("chromium-browser") or _which("google-chrome")
    return None if program is None else Path(program)


def find_program(name: str) -> Path | None:
    """Return a program that is called the same everywhere."""
    program = _which(name)
    return None if program is None else Path(program)


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_OUTSIDE_PATH)


_FINDERS: Mapping[str, Callable[[], Path | None]] = {
    "postgresql": find_postgres,
    "rabbitmq": find_rabbitmq,
    "redis": find_redis,
    "chromium": find_chromium,
    "nginx": partial(find_program, "nginx"),
    "mariadb": partial(find_program, "mariadbd"),
    "dnsmasq": partial(find_program, "dnsmasq"),
    "blackbox": partial(find_program, "prometheus-blackbox-exporter"),
}


def missing(kinds: Sequence[str]) -> list[str]:
    """Return those of the kinds whose programs are not on this machine."""
    return [kind for kind in kinds if _FINDERS[kind]() is None]


def ensure(kinds: Sequence[str]) -> None:
    """Make sure that the programs are there, installing them if we may; raises OpsError that says what to install."""
    if not missing(kinds):
        return
    wanted = " ".join(PACKAGES[kind] for kind in missing(kinds))
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        message = (
            f"missing on this machine: {wanted}; install with `sudo apt-get install {wanted}` (they need not be started) and run this again"
        )
        raise OpsError(message)
    with _one_at_a_time():
        still_missing = missing(kinds)
        if still_missing:
            _install(still_missing)
    if missing(kinds):
        message = f"apt-get installed {wanted}, but the programs were not found afterwards"
        raise OpsError(message)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(kinds: Sequence[str]) -> None:
    packages = [PACKAGES[kind] for kind in kinds]
    _apt_get("update", "-q")
    with _services_stay_off():
        if "postgresql" in kinds:
            # First this one alone: its file decides whether the server's package makes a cluster and starts it.
            _apt_get("install", "-q", "-y", "--no-install-recommends", "postgresql-common")
            _no_main_cluster()
        _apt_get("install", "-q", "-y", "--no-install-recommends", *packages)
    if _SYSTEMD.is_dir():
        services = [package for package in packages if package not in {PACKAGES["chromium"], PACKAGES["dnsmasq"]}]  # these have none
        subprocess.run(["systemctl", "disable", *services], check=False, capture_output=True)  # they would start at the next boot


def _no_main_cluster() -> None:
    text = _CLUSTERS.read_text(encoding="utf-8") if _CLUSTERS.exists() else ""
    changed, count = re.subn(r"(?m)^#?\s*create_main_cluster\s*=.*$", "create_main_cluster = false", text)
    _CLUSTERS.write_text(changed if count else f"{text}\ncreate_main_cluster = false\n", encoding="utf-8")


@contextlib.contextmanager
def _services_stay_off() -> Iterator[None]:
    """Have Debian's own switch say no to every start, for as long as the installation runs."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _apt_get(*arguments: str) -> None:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-confold", *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=1800, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no message"]
        message = f"`{' '.join(command)}` failed: {last[0]}"
        raise OpsError(message)
