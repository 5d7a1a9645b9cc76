"""PostgreSQL, RabbitMQ and Redis of our own: private instances in a folder, on loopback ports, without touching the system's.

What runs is written to `<folder>/<kind>.json` (readable by the owner only: passwords are in it), for whoever is to find and stop it.
Passwords and node names live as long as the data; ports stay the same between two starts when they are free.
"""

import json
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from infra.ops import local_postgres, local_rabbitmq, local_redis, programs
from infra.ops.processes import ProcessId, alive, stop

Kind = Literal["postgresql", "rabbitmq", "redis"]
KINDS: tuple[Kind, ...] = ("postgresql", "rabbitmq", "redis")
"""Every kind of server that the product needs."""

_ORDERLY = {"postgresql": local_postgres.STOP_SIGNAL, "rabbitmq": local_rabbitmq.STOP_SIGNAL, "redis": signal.SIGTERM}
# PostgreSQL's immediate stop takes its own processes and shared memory with it, SIGKILL would not.
_AT_ONCE = {"postgresql": signal.SIGQUIT, "rabbitmq": signal.SIGKILL, "redis": signal.SIGKILL}


@dataclass(frozen=True, slots=True)
class Server:
    """One private server that runs (or ran last): where it answers, who may sign in, what to stop."""

    kind: Kind
    port: int
    user: str
    password: str
    processes: tuple[str, ...]
    """The server first, then its companions; empty when it was stopped."""
    http_port: int = 0
    """The management API of RabbitMQ; 0 for the others."""
    host: str = "127.0.0.1"

    def url(self, path: str) -> str:
        """Return the URL to connect with; `path` is a database, a vhost (quoted) or a number."""
        scheme = {"postgresql": "postgresql", "rabbitmq": "amqp", "redis": "redis"}[self.kind]
        return f"{scheme}://{self.user}:{self.password}@{self.host}:{self.port}/{path}"

    @property
    def management_url(self) -> str:
        """Return the root of RabbitMQ's management API, without credentials."""
        return f"http://{self.host}:{self.http_port}"


def start_all(
    folder: Path, kinds: Sequence[Kind] = KINDS, *, durable: bool = True, say: Callable[[str], None] = lambda _: None
) -> dict[Kind, Server]:
    """Start the servers side by side and return them once all answer; those that run already are kept.

    Installs missing programs if this is root on Debian. Raises OpsError; what it had started is stopped then.
    """
    absent = programs.missing(kinds)
    if absent:
        say(f"Installing {', '.join(absent)} …")
        programs.ensure(absent)
    with ThreadPoolExecutor(len(kinds)) as workers:
        starts = {kind: workers.submit(start, folder, kind, durable=durable) for kind in kinds}
    failed = [future.exception() for future in starts.values() if future.exception() is not None]
    if failed and failed[0] is not None:
        stop_all(folder, kinds)
        raise failed[0]
    return {kind: future.result() for kind, future in starts.items()}


def start(folder: Path, kind: Kind, *, durable: bool = True) -> Server:
    """Start one server, or return the one that already runs in this folder. Raises OpsError."""
    folder.mkdir(parents=True, exist_ok=True)
    last = read(folder, kind)
    if last is not None and running(last):
        return last
    if last is not None:
        stop_server(folder, kind)  # a companion may have outlived its server
    password = secrets.token_hex(20) if last is None else last.password
    port, http_port = (None, None) if last is None else (last.port, last.http_port)
    home, log = folder / kind, folder / "logs" / f"{kind}.log"
    if kind == "postgresql":
        process, port = local_postgres.start(home, password=password, port=port, durable=durable, log=log)
        server = Server(kind, port, local_postgres.ADMIN, password, (str(process),))
    elif kind == "redis":
        process, port = local_redis.start(home, password=password, port=port, log=log)
        server = Server(kind, port, "default", password, (str(process),))
    else:
        broker = local_rabbitmq.start(home, password=password, port=port, http_port=http_port, log=log)
        processes = (str(broker.process), str(broker.script), str(broker.port_mapper))
        server = Server(kind, broker.port, local_rabbitmq.USER, password, processes, broker.http_port)
    _write(folder, server)
    return server


def running(server: Server) -> bool:
    """Whether the server itself runs."""
    return bool(server.processes) and alive(ProcessId.parse(server.processes[0]))


def read(folder: Path, kind: Kind) -> Server | None:
    """Return what was last started in the folder, or None."""
    try:
        stored = json.loads(_state_file(folder, kind).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Server(**stored | {"processes": tuple(stored["processes"])})


def stop_all(folder: Path, kinds: Sequence[Kind] = KINDS, *, graceful: bool = True) -> None:
    """Stop the servers side by side; none of their processes is left afterwards. Ungraceful is quick, for data that nobody needs."""
    with ThreadPoolExecutor(max(1, len(kinds))) as workers:
        for stopped in [workers.submit(stop_server, folder, kind, graceful=graceful) for kind in kinds]:
            stopped.result()


def stop_server(folder: Path, kind: Kind, *, graceful: bool = True) -> None:
    """Stop one server in its orderly way, by force after 30 s; nothing happens if it does not run."""
    server = read(folder, kind)
    if server is None or not server.processes:
        return
    main, *companions = (ProcessId.parse(text) for text in server.processes)
    stop(main, timeout_s=30, how=_ORDERLY[kind] if graceful else _AT_ONCE[kind])
    for companion in companions:
        stop(companion, timeout_s=5)
    _write(folder, Server(kind, server.port, server.user, server.password, (), server.http_port))


def erase(folder: Path) -> None:
    """Remove stopped servers with all their data."""
    local_postgres.erase(folder / "postgresql")
    shutil.rmtree(folder, ignore_errors=True)


def _state_file(folder: Path, kind: Kind) -> Path:
    return folder / f"{kind}.json"


def _write(folder: Path, server: Server) -> None:
    """Replace the state in one step: a reader never sees half of it."""
    target = _state_file(folder, server.kind)
    partial = target.with_suffix(f".{os.getpid()}.tmp")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(asdict(server)), encoding="utf-8")
    partial.replace(target)
