"""A private RabbitMQ: own node name, own Erlang cookie, own port mapper, so that no other broker of this machine is touched.

Works on 3.10 (Debian 12) and on 4.
"""

import os
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.ops import programs
from infra.ops.errors import OpsError
from infra.ops.ports import free_port
from infra.ops.processes import ProcessId, identify, spawn, stopped_on_error, wait_until

USER = "sla"
"""The broker's only user."""

STOP_SIGNAL = signal.SIGTERM
"""The virtual machine's own orderly end."""

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http_port}
default_user = {user}
default_pass = {password}
disk_free_limit.absolute = 200MB
vm_memory_high_watermark.absolute = 1GB
collect_statistics_interval = 2000
log.console = true
log.console.level = info
log.file = false
"""
# Small write-ahead files: each quorum queue's log starts in memory up to this size. No busy waiting: other programs share the cores.
_ERLANG_ARGUMENTS = "+sbwt none +sbwtdcpu none +sbwtdio none -ra wal_max_size_bytes 67108864"


@dataclass(frozen=True, slots=True)
class Broker:
    """The processes and ports of a broker that runs."""

    process: ProcessId
    script: ProcessId
    port_mapper: ProcessId
    port: int
    http_port: int


def start(folder: Path, *, password: str, port: int | None, http_port: int | None, log: Path) -> Broker:
    """Start RabbitMQ with its management plugin and return once it routes messages; raises OpsError."""
    server, epmd = programs.find_rabbitmq(), programs.find_epmd()
    if server is None or epmd is None:
        message = "RabbitMQ is not installed"
        raise OpsError(message)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    chosen, chosen_http, mapper_port = (free_port(port), free_port(http_port), free_port())
    _write_config(folder, password=password, port=chosen, http_port=chosen_http)
    environment = _environment(folder, mapper_port)
    # In the foreground and by us: the one that Erlang would start by itself stays behind for ever.
    mapper = spawn([str(epmd), "-port", str(mapper_port), "-address", "127.0.0.1"], log=log, env=environment, cwd=folder)
    with stopped_on_error(mapper):
        leader = spawn([str(server)], log=log, env=environment, cwd=folder)
        with stopped_on_error(leader):
            wait_until(lambda: _ready(chosen_http, password), timeout_s=120, what="the start of RabbitMQ", process=leader, log=log)
            process = identify(int((folder / "rabbitmq.pid").read_text(encoding="utf-8")))
    return Broker(process=process, script=leader, port_mapper=mapper, port=chosen, http_port=chosen_http)


def _write_config(folder: Path, *, password: str, port: int, http_port: int) -> None:
    cookie = folder / ".erlang.cookie"
    if not cookie.exists():
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(20).upper(), encoding="utf-8")
        cookie.chmod(0o400)
    node = folder / "node"
    if not node.exists():  # the data belong to this name: it must not change
        node.write_text(f"sla-{secrets.token_hex(4)}@localhost", encoding="utf-8")
    config = folder / "rabbitmq.conf"
    config.touch(mode=0o600)
    config.write_text(_CONFIG.format(port=port, http_port=http_port, user=USER, password=password), encoding="utf-8")
    (folder / "enabled_plugins").write_text("[rabbitmq_management].\n", encoding="utf-8")
    (folder / "rabbitmq-env.conf").write_text("", encoding="utf-8")
    (folder / "advanced.config").write_text("[].\n", encoding="utf-8")
    (folder / "rabbitmq.pid").unlink(missing_ok=True)


def _environment(folder: Path, mapper_port: int) -> dict[str, str]:
    """Return an environment in which nothing of another RabbitMQ on this machine is left."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
    return inherited | {
        "HOME": str(folder),
        "RABBITMQ_HOME_DIR": str(folder),
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": (folder / "node").read_text(encoding="utf-8"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_ERLANG_ARGUMENTS} -kernel inet_dist_use_interface {{127,0,0,1}}",
    }


def _ready(http_port: int, password: str) -> bool:
    """Whether the virtual host is there: the last thing that comes up."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{http_port}/api/aliveness-test/%2F", auth=(USER, password), timeout=5, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.is_success
