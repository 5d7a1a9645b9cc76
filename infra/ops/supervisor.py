"""Keeps the local stack running: `python -m infra.ops.supervisor FOLDER`, started detached by `sla-monitor stack up`.

Starts the programs of `<folder>/plan.json`, starts again what dies (after a growing wait); on SIGTERM stops all of it, then the servers.
What runs is in `<folder>/state.json`, replaced in one step whenever it changes.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from infra.ops import servers
from infra.ops.errors import OpsError
from infra.ops.processes import ProcessId, alive, collect, identify, spawn, stop

LOOK_S = 0.2
FIRST_WAIT_S, MOST_WAIT_S = 0.5, 30.0
SERVER_WAIT_S = 10.0
STEADY_S = 60.0
"""Who has run for so long is believed to be well: the next wait is the first one again."""
STOP_S = 12.0
"""Services promise to end within ten seconds."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program to keep running, with the settings that it gets beside the inherited environment."""

    name: str
    command: list[str]
    env: dict[str, str]
    health_port: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All programs, and what they are together: the page's address is `url`."""

    url: str
    programs: list[Program]
    settings: dict[str, str]
    """The operator's own settings for this stack, for commands such as `sla-monitor db status`."""
    kinds: list[servers.Kind] = field(default_factory=lambda: list(servers.KINDS))


@dataclass(slots=True)
class Child:
    """One program as it runs now."""

    program: Program
    process: ProcessId | None = None
    started_at: float = 0.0
    restarts: int = 0
    wait_s: float = FIRST_WAIT_S
    due_at: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """What `state.json` says: the supervisor, and process and restarts by program."""

    supervisor: str
    processes: dict[str, str]
    restarts: dict[str, int]


def write_plan(folder: Path, plan: Plan) -> None:
    """Keep the plan for the supervisor and for whoever asks. The passwords in it are readable by the owner only."""
    _replace(folder / "plan.json", asdict(plan))


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of the stack in this folder, or None if there never was one."""
    stored = _load(folder / "plan.json")
    return None if stored is None else TypeAdapter(Plan).validate_json(stored)


def read_state(folder: Path) -> State | None:
    """Return what was last known to run, or None."""
    stored = _load(folder / "state.json")
    return None if stored is None else TypeAdapter(State).validate_json(stored)


class Supervisor:
    """The loop that looks after the programs."""

    def __init__(self, folder: Path, plan: Plan, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take charge of a plan; nothing is started yet."""
        self._folder = folder
        self._plan = plan
        self._clock = clock
        self._children = [Child(program) for program in plan.programs]
        self._told = False
        self._servers_due_at = 0.0

    def run(self) -> None:
        """Keep everything running until SIGTERM or SIGINT, then stop everything."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)
        self._write()
        while not self._told:
            if self.look():
                self._write()
            time.sleep(LOOK_S)
        self._stop_all()

    def look(self) -> bool:
        """Start what is due, note what died; returns whether anything changed."""
        changed = self._mend_servers()
        for child in self._children:
            changed = self._mend(child) or changed
        return changed

    def _mend(self, child: Child) -> bool:
        now = self._clock()
        if child.process is not None:
            collect(child.process.pid)
            if alive(child.process):
                return False
            if now - child.started_at >= STEADY_S:
                child.wait_s = FIRST_WAIT_S
            child.process, child.restarts = None, child.restarts + 1
            child.due_at, child.wait_s = now + child.wait_s, min(child.wait_s * 2, MOST_WAIT_S)
            self._note(f"{child.program.name} ended; it is started again in {child.due_at - now:.1f} s")
            return True
        if now < child.due_at:
            return False
        log = self._folder / "logs" / f"{child.program.name}.log"
        child.process = spawn(child.program.command, log=log, env=os.environ | child.program.env)
        child.started_at = now
        self._note(f"{child.program.name} started as process {child.process.pid}")
        return True

    def _mend_servers(self) -> bool:
        if self._clock() < self._servers_due_at:
            return False
        changed = False
        for kind in self._plan.kinds:
            server = servers.read(self._folder, kind)
            if server is None or servers.running(server):
                continue
            self._note(f"{kind} ended; it is started again")
            changed = True
            try:
                servers.start(self._folder, kind)
            except OpsError as error:
                self._servers_due_at = self._clock() + SERVER_WAIT_S
                self._note(f"{kind} could not be started, which is tried again in {SERVER_WAIT_S:.0f} s: {error}")
        return changed

    def _stop_all(self) -> None:
        """Services first, all at once: their own order of draining needs the servers, not each other."""
        running = [child for child in self._children if child.process is not None and alive(child.process)]
        for child in running:
            os.kill(_of(child).pid, signal.SIGTERM)
        for child in running:
            graceful = stop(_of(child), timeout_s=STOP_S)
            self._note(
                f"{child.program.name} stopped" if graceful else f"{child.program.name} did not end within {STOP_S:.0f} s and was killed"
            )
        servers.stop_all(self._folder, self._plan.kinds)
        (self._folder / "state.json").unlink()
        self._note("stopped")

    def _write(self) -> None:
        processes = {child.program.name: str(child.process) for child in self._children if child.process is not None}
        restarts = {child.program.name: child.restarts for child in self._children}
        _replace(self._folder / "state.json", asdict(State(str(identify(os.getpid())), processes, restarts)))

    def _note(self, text: str) -> None:
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, flush=True)

    def _tell(self, *_: object) -> None:
        self._told = True


def _of(child: Child) -> ProcessId:
    if child.process is None:
        message = f"{child.program.name} does not run"
        raise ValueError(message)
    return child.process


def _load(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _replace(target: Path, content: object) -> None:
    partial = target.with_suffix(f".{os.getpid()}.tmp")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(target)


def main(folder: Path) -> None:
    """Supervise the plan in the folder."""
    plan = read_plan(folder)
    if plan is None:
        message = f"{folder} holds no plan"
        raise SystemExit(message)
    Supervisor(folder, plan).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
