"""The real servers that tests run against: one set per test run, shared by all of its workers, gone when the last worker is.

Started on first use, each kind alone, so that a test of the database does not wait for the broker. Local private instances by default;
`SLA_TEST_SERVERS=docker` takes the same from containers.
"""

import asyncio
import fcntl
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar
from urllib.parse import quote

import asyncpg
import httpx
from filelock import FileLock

from infra.ops import database, servers
from infra.ops.local_redis import DATABASES
from infra.ops.processes import wait_until
from infra.ops.servers import Kind, Server

TEMPLATE = "sla_template"
"""The migrated database that each test's own is copied from."""

IMAGES: Mapping[Kind, str] = {"postgresql": "postgres:17", "rabbitmq": "rabbitmq:4-management", "redis": "redis:8"}
_PORTS: Mapping[Kind, int] = {"postgresql": 5432, "rabbitmq": 5672, "redis": 6379}
_MANAGEMENT = 15672
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Database:
    """A fresh, migrated database. `urls` holds one per role: checker, aggregator, incidents, gateway, readonly."""

    name: str
    admin_url: str
    urls: Mapping[str, str]

    def url(self, service: str) -> str:
        """Return the URL with the service's own role."""
        return self.urls[service]


@dataclass(frozen=True, slots=True)
class Vhost:
    """A fresh virtual host of the broker, and the management API to look into it."""

    name: str
    amqp_url: str
    server: Server

    def api(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  # JSON of the broker, read by the test
        """Call the management API; `{vhost}` in the path is filled in. Raises httpx.HTTPStatusError."""
        return management(self.server, method, path.replace("{vhost}", quote(self.name, safe="")), body)


class Run:
    """The servers of one test run, seen from one of its processes."""

    def __init__(self, folder: Path) -> None:
        """Join the run whose servers live in `folder`; nothing is started yet."""
        self.folder = folder
        self._lease: TextIO | None = None
        self._known: dict[Kind, Server] = {}

    def server(self, kind: Kind) -> Server:
        """Return a running server, starting it if this is the first test of the run that asks for it."""
        if kind not in self._known:
            self._hold()
            with FileLock(self.folder / f"{kind}.lock"):
                self._known[kind] = self._start(kind)
        return self._known[kind]

    def passwords(self) -> dict[str, str]:
        """Return the roles' passwords of this run; call under a lock the first time."""
        file = self.folder / "roles.json"
        if not file.exists():
            file.write_text(json.dumps({service: secrets.token_hex(12) for service in database.ROLES}), encoding="utf-8")
        return dict(json.loads(file.read_text(encoding="utf-8")))

    def once(self, name: str, action: Callable[[], None]) -> None:
        """Have one process of the run do something, and the others wait for it."""
        done = self.folder / f"{name}.done"
        with FileLock(self.folder / f"{name}.lock"):
            if not done.exists():
                action()
                done.touch()

    def leave(self) -> None:
        """Stop using the servers; the last one to leave has them stopped."""
        if self._lease is not None:
            self._lease.close()

    def _hold(self) -> None:
        """Take a share of the lease, and see to it that somebody waits for its end."""
        while self._lease is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(self.folder / "hold.lock"):
                    lease = (self.folder / "lease").open("a+")
                    fcntl.flock(lease, fcntl.LOCK_SH)
                    if not _is_still(lease, self.folder / "lease"):
                        lease.close()  # the last user had just left, and the folder went with it: begin anew
                        continue
                    self._lease = lease
                    self._ensure_reaper()
            except FileNotFoundError:
                continue

    def _ensure_reaper(self) -> None:
        marker = self.folder / "reaper"
        if marker.exists():
            return
        command = [sys.executable, "-m", "tests.reaper", str(self.folder)]
        child = subprocess.Popen(
            command, cwd=Path(__file__).parents[1], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        child.returncode = 0  # it outlives this process on purpose
        marker.touch()

    def _start(self, kind: Kind) -> Server:
        if os.environ.get("SLA_TEST_SERVERS", "local") == "docker":
            return _start_container(self.folder, kind)
        return servers.start_all(self.folder, [kind], durable=False)[kind]


def _is_still(file: TextIO, path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def run_folder(run_id: str) -> Path:
    """Return where one run keeps its servers: not under a home folder, which PostgreSQL's user could not enter."""
    base = Path(f"/var/tmp/sla-monitor-tests-{os.getuid()}")  # noqa: S108  # private by its mode
    base.mkdir(mode=0o711, exist_ok=True)
    return base / run_id


def make_template(run: Run, server: Server) -> None:
    """Migrate the database that the others are copied from."""
    asyncio_run(database.migrate(server.url(TEMPLATE), run.passwords()))


@contextmanager
def fresh_database(run: Run, server: Server, template: str) -> Iterator[Database]:
    """Give a copy of the template, and drop it afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    admin_url = server.url(name)

    async def create() -> None:
        conn = await asyncpg.connect(server.url("postgres"))
        try:
            await conn.execute(f'create database "{name}" template "{template}"')
            await database.guard(conn, name)
        finally:
            await conn.close()

    async def drop() -> None:
        conn = await asyncpg.connect(server.url("postgres"))
        try:
            await conn.execute(f'drop database "{name}" with (force)')
        finally:
            await conn.close()

    asyncio_run(create())
    urls = {
        service: database.with_credentials(admin_url, user=database.role(service), password=password)
        for service, password in run.passwords().items()
    }
    try:
        yield Database(name, admin_url, urls)
    finally:
        asyncio_run(drop())


@contextmanager
def fresh_vhost(server: Server) -> Iterator[Vhost]:
    """Give an empty virtual host, and remove it afterwards with all that is in it."""
    name = f"test-{secrets.token_hex(6)}"
    management(server, "PUT", f"/api/vhosts/{name}", {})
    management(server, "PUT", f"/api/permissions/{name}/{server.user}", {"configure": ".*", "write": ".*", "read": ".*"})
    try:
        yield Vhost(name, server.url(name), server)
    finally:
        management(server, "DELETE", f"/api/vhosts/{name}")


def next_redis_database(run: Run) -> int:
    """Return the number of a Redis database that no other test of this run uses."""
    counter = run.folder / "redis.next"
    with FileLock(run.folder / "redis.next.lock"):
        number = int(counter.read_text(encoding="utf-8")) if counter.exists() else 1
        counter.write_text(str(number + 1), encoding="utf-8")
    return number % DATABASES


def management(server: Server, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  # JSON of the broker, read by the test
    """Call RabbitMQ's management API; raises httpx.HTTPStatusError."""
    answer = httpx.request(method, server.management_url + path, json=body, auth=(server.user, server.password), timeout=30)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def asyncio_run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop and thread of its own: a fixture may not disturb the loop that the test runs in."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  # carried over to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _start_container(folder: Path, kind: Kind) -> Server:
    """Start the kind's public image, or find the container that another worker started."""
    state = folder / f"{kind}.container.json"
    if state.exists():
        stored = json.loads(state.read_text(encoding="utf-8"))
        return Server(**stored | {"processes": ()})
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # the reaper removes them; read when the library is imported
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415  # only with SLA_TEST_SERVERS=docker

    password = secrets.token_hex(16)
    container = DockerContainer(IMAGES[kind]).with_exposed_ports(_PORTS[kind], *([_MANAGEMENT] if kind == "rabbitmq" else []))
    if kind == "postgresql":
        container = container.with_env("POSTGRES_USER", "sla_admin").with_env("POSTGRES_PASSWORD", password)
        container = container.with_command("postgres -c max_connections=400 -c fsync=off -c synchronous_commit=off -c full_page_writes=off")
    elif kind == "rabbitmq":
        container = container.with_env("RABBITMQ_DEFAULT_USER", "sla").with_env("RABBITMQ_DEFAULT_PASS", password)
    else:
        container = container.with_command(f"redis-server --requirepass {password} --databases {DATABASES}")
    container.start()
    (folder / f"{kind}.container").write_text(container.get_wrapped_container().id, encoding="utf-8")
    user = {"postgresql": "sla_admin", "rabbitmq": "sla", "redis": "default"}[kind]
    http_port = int(container.get_exposed_port(_MANAGEMENT)) if kind == "rabbitmq" else 0
    host = container.get_container_host_ip().replace("localhost", "127.0.0.1")
    server = Server(kind, int(container.get_exposed_port(_PORTS[kind])), user, password, (), http_port, host)
    wait_until(lambda: _container_answers(server), timeout_s=120, what=f"the start of the container {IMAGES[kind]}")
    state.write_text(json.dumps(asdict(server)), encoding="utf-8")
    return server


def _container_answers(server: Server) -> bool:
    try:
        if server.kind == "rabbitmq":
            return bool(management(server, "GET", "/api/aliveness-test/%2F"))
        if server.kind == "postgresql":
            asyncio_run(_connect_once(server.url("postgres")))
            return True
        with httpx.Client(timeout=2) as client:  # Redis answers HTTP by closing: enough to know that it listens
            client.get(f"http://{server.host}:{server.port}/")
    except httpx.RemoteProtocolError:
        return True
    except (httpx.HTTPError, OSError, asyncpg.PostgresError):
        return False
    return True


async def _connect_once(url: str) -> None:
    conn = await asyncpg.connect(url, timeout=5)
    await conn.close()
