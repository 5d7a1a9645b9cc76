"""The local stack: PostgreSQL, RabbitMQ, Redis and the product on this machine, in one folder, without containers."""

import asyncio
import fcntl
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.demo.targets import IDS
from infra.ops import database, servers
from infra.ops.envfile import new_key
from infra.ops.errors import OpsError
from infra.ops.ports import free_block, free_port
from infra.ops.processes import ProcessId, alive, spawn, stop, wait_until
from infra.ops.seed import Seeded, seed
from infra.ops.settings import DemoSettings
from infra.ops.supervisor import Plan, Program, State, read_plan, read_state, write_plan

ROOT = Path(__file__).parents[2]
DATABASE = "sla_monitor"
DEFAULT_PORT = 8080
READY_S = 90.0
DOWN_S = 75.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One program of the stack as it is now; `reason` says why it is not ready."""

    name: str
    pid: int | None
    ready: bool
    reason: str
    restarts: int


@dataclass(frozen=True, slots=True)
class Up:
    """The stack that runs: its address, and what was made for it just now."""

    url: str
    was_running: bool
    seeded: Seeded


def up(folder: Path, *, demo: bool, http_port: int | None, say: Say) -> Up:
    """Start everything and return once every service is ready; a stack that runs already is left as it is. Raises OpsError."""
    folder = folder.resolve()
    with _alone(folder):
        plan = read_plan(folder)
        if plan is not None and _supervised(folder) is not None:
            _wait_ready(folder, plan)
            return Up(plan.url, was_running=True, seeded=Seeded())
        _stop_leftovers(folder)
        try:
            return _start(folder, demo=demo, http_port=http_port, say=say)
        except BaseException:
            _down(folder)
            raise


def down(folder: Path) -> bool:
    """Stop everything, leaving no process behind; returns whether anything ran. The data stay."""
    folder = folder.resolve()
    if not folder.exists():
        return False
    with _alone(folder):
        return _down(folder)


def erase(folder: Path) -> None:
    """Stop everything and remove all data."""
    down(folder)
    servers.erase(folder.resolve())


def status(folder: Path) -> list[Part]:
    """Return how each part is; nothing if the stack does not run."""
    folder = folder.resolve()
    plan, state = read_plan(folder), _supervised(folder)
    if plan is None or state is None:
        return []
    parts = [_server_part(folder, kind) for kind in plan.kinds]
    for program in plan.programs:
        text = state.processes.get(program.name)
        running = text is not None and alive(ProcessId.parse(text))
        ready, reason = _ask(program.health_port) if running else (False, "is not running")
        pid = ProcessId.parse(text).pid if text and running else None
        parts.append(Part(program.name, pid, ready, reason, state.restarts.get(program.name, 0)))
    return parts


def settings_of(folder: Path) -> Mapping[str, str]:
    """Return the operator's settings of the stack in this folder (SLA_ADMIN_DATABASE_URL …); empty if there never was one."""
    plan = read_plan(folder)
    return {} if plan is None else plan.settings


def _start(folder: Path, *, demo: bool, http_port: int | None, say: Say) -> Up:
    began = time.monotonic()
    say("Starting PostgreSQL, RabbitMQ and Redis …")
    running = servers.start_all(folder, say=say)
    say(f"  they answer ({time.monotonic() - began:.1f} s)")
    passwords = _role_passwords(folder)
    admin_url = running["postgresql"].url(DATABASE)
    applied = asyncio.run(database.migrate(admin_url, passwords))
    count = sum(len(names) for names in applied.values())
    say(f"Database: {count} migrations applied" if count else "Database: up to date")
    demo_settings = _demo_settings(folder) if demo else None
    seeded = asyncio.run(seed(admin_url, passwords, demo_settings.target_urls() if demo_settings else {}))
    port = free_port(http_port or DEFAULT_PORT)
    if port != (http_port or DEFAULT_PORT):
        say(f"Port {http_port or DEFAULT_PORT} is taken; the address is on {port} instead")
    plan = _plan(folder, running, passwords, port=port, demo=demo_settings)
    write_plan(folder, plan)
    say("Starting " + ", ".join(program.name for program in plan.programs) + " …")
    supervisor = spawn([sys.executable, "-m", "infra.ops.supervisor", str(folder)], log=folder / "logs" / "supervisor.log", cwd=ROOT)
    wait_until(lambda: _supervised(folder) is not None, timeout_s=20, what="the start of the supervisor", process=supervisor)
    _wait_ready(folder, plan)
    say(f"Ready after {time.monotonic() - began:.1f} s")
    return Up(plan.url, was_running=False, seeded=seeded)


def _plan(
    folder: Path, running: Mapping[servers.Kind, servers.Server], passwords: Mapping[str, str], *, port: int, demo: DemoSettings | None
) -> Plan:
    broker_url = running["rabbitmq"].url("%2F")
    admin_url = running["postgresql"].url(DATABASE)
    (folder / "spool").mkdir(exist_ok=True)
    common = {
        "PYTHONPATH": str(ROOT),
        "SLA_BROKER_URL": broker_url,
        "SLA_HEALTH_HOST": "127.0.0.1",
        "SLA_LOG_FORMAT": os.environ.get("SLA_LOG_FORMAT", "console"),
    }
    keys = {"SLA_SECRET_KEYS": _secret_keys(folder)}
    own = {
        "checker": {"SLA_SPOOL_PATH": str(folder / "spool" / "checker.sqlite3")} | keys,
        "gateway": {"SLA_REDIS_URL": running["redis"].url("0"), "SLA_HTTP_HOST": "127.0.0.1", "SLA_HTTP_PORT": str(port)},
    }
    programs = []
    for service in database.SERVICES:
        url = database.with_credentials(admin_url, user=database.role(service), password=passwords[service])
        health_port = free_port()
        env = common | own.get(service, {}) | {"SLA_DATABASE_URL": url, "SLA_HEALTH_PORT": str(health_port)}
        programs.append(Program(service, [sys.executable, "-m", f"services.{service}"], env, health_port))
    settings = {"SLA_ADMIN_DATABASE_URL": admin_url, "SLA_BROKER_URL": broker_url, "SLA_URL": f"http://127.0.0.1:{port}"} | keys
    settings |= {f"SLA_{service.upper()}_DB_PASSWORD": password for service, password in passwords.items()}
    if demo is not None:
        env = {"PYTHONPATH": str(ROOT), "SLA_DEMO_HOST": demo.demo_host, "SLA_DEMO_PORT": str(demo.demo_port)}
        programs.append(Program("demo-target", [sys.executable, "-m", "infra.demo"], env, demo.demo_port))
        settings["SLA_DEMO_PORT"] = str(demo.demo_port)
    return Plan(f"http://127.0.0.1:{port}/", programs, settings)


def _demo_settings(folder: Path) -> DemoSettings:
    """Return the demo's settings on ports that are free, the same as before if possible: the seeded services point at them."""
    given = DemoSettings()
    kept = folder / "demo.port"
    preferred = int(kept.read_text(encoding="utf-8")) if kept.exists() else given.demo_port
    port = free_block(len(IDS) + 1, preferred)
    if not kept.exists():
        kept.write_text(str(port), encoding="utf-8")
    elif port != preferred:
        message = f"the demo's services are checked on ports {preferred} to {preferred + len(IDS)}, which another program has taken"
        raise OpsError(message)
    return given.model_copy(update={"demo_port": port, "demo_target_host": "127.0.0.1"})


def _role_passwords(folder: Path) -> dict[str, str]:
    """Return the roles' passwords, made with the data and kept beside them."""
    file = folder / "roles.json"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(json.dumps({service: secrets.token_hex(16) for service in database.ROLES}), encoding="utf-8")
    passwords: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return passwords


def _secret_keys(folder: Path) -> str:
    """Return the keys that seal secrets: made with the data, kept beside them, and changed by whoever rotates them."""
    file = folder / "secret.keys"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(new_key(), encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def _supervised(folder: Path) -> State | None:
    """Return the state if its supervisor runs."""
    state = read_state(folder)
    return state if state is not None and alive(ProcessId.parse(state.supervisor)) else None


def _wait_ready(folder: Path, plan: Plan) -> None:
    waiting = {program.name: program.health_port for program in plan.programs}

    def ready() -> bool:
        for name in [name for name, port in waiting.items() if _ask(port)[0]]:
            del waiting[name]
        return not waiting

    try:
        wait_until(ready, timeout_s=READY_S, what="readiness")
    except OpsError:
        name, port = next(iter(waiting.items()))
        message = f"{name} is not ready within {READY_S:.0f} s: {_ask(port)[1]}; its log is {folder / 'logs' / f'{name}.log'}"
        raise OpsError(message) from None


def _ask(health_port: int) -> tuple[bool, str]:
    """Return whether a program says that it is ready, and what it says otherwise."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{health_port}/health/ready", timeout=2, trust_env=False)
    except httpx.TransportError:
        return False, "does not answer yet"
    return answer.is_success, "" if answer.is_success else answer.text[:500]


def _server_part(folder: Path, kind: servers.Kind) -> Part:
    server = servers.read(folder, kind)
    if server is None or not servers.running(server):
        return Part(kind, None, ready=False, reason="is not running", restarts=0)
    return Part(kind, ProcessId.parse(server.processes[0]).pid, ready=True, reason="", restarts=0)


def _down(folder: Path) -> bool:
    state = _supervised(folder)
    anything = state is not None or any(servers.running(one) for kind in servers.KINDS if (one := servers.read(folder, kind)) is not None)
    if state is not None:
        stop(ProcessId.parse(state.supervisor), timeout_s=DOWN_S)
    _stop_leftovers(folder)
    return anything


def _stop_leftovers(folder: Path) -> None:
    """Stop what a supervisor left that was killed: first its programs, then the servers."""
    state = read_state(folder)
    for text in [] if state is None else state.processes.values():
        stop(ProcessId.parse(text), timeout_s=12)
    servers.stop_all(folder)
    (folder / "state.json").unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one `up` or `down` at a time work on a folder; the second waits for the first."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
