"""The supervisor with stand-in programs: what dies comes back, ever later; what is told to end ends; nothing is left.

Seen red on: a supervisor that never looks again, one whose wait does not grow, one that leaves a stubborn program running.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.ops import supervisor
from infra.ops.processes import ProcessId, alive, identify, of_session, spawn, stop, wait_until
from infra.ops.supervisor import Child, Plan, Program, Supervisor, read_plan, read_state, write_plan

LIVES = "import signal\nwhile True: signal.pause()"
DIES = "raise SystemExit(1)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\nwhile True: signal.pause()"


def program(name: str, code: str) -> Program:
    return Program(name, [sys.executable, "-c", code], {}, health_port=1)


def plan(*programs: Program) -> Plan:
    return Plan("http://127.0.0.1:1/", list(programs), {"SLA_X": "y"}, kinds=[])


class Running:
    """A supervisor in a process of its own, as `stack up` starts it."""

    def __init__(self, folder: Path, what: Plan) -> None:
        write_plan(folder, what)
        self.folder = folder
        self.log = folder / "supervisor.log"
        self.process = spawn([sys.executable, "-m", "infra.ops.supervisor", str(folder)], log=self.log, cwd=Path(__file__).parents[3])
        self.names = {one.name for one in what.programs}
        wait_until(lambda: set(self.processes()) == self.names, timeout_s=20, what="the start", process=self.process, log=self.log)

    def processes(self) -> dict[str, ProcessId]:
        state = read_state(self.folder)
        return {} if state is None else {name: ProcessId.parse(text) for name, text in state.processes.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    state = read_state(tmp_path)
    for text in [] if state is None else [state.supervisor, *state.processes.values()]:
        stop(ProcessId.parse(text), timeout_s=1)


def test_a_program_that_is_killed_comes_back_and_the_other_is_left_alone(folder: Path) -> None:
    running = Running(folder, plan(program("a", LIVES), program("b", LIVES)))
    before = running.processes()
    stop(before["a"], timeout_s=0)
    wait_until(lambda: running.processes().get("a", before["a"]) != before["a"], timeout_s=10, what="the return of a")
    after = running.processes()
    assert alive(after["a"])
    assert after["b"] == before["b"]
    state = read_state(folder)
    assert state is not None
    assert state.restarts == {"a": 1, "b": 0}


def test_sigterm_ends_everything_and_leaves_no_process(folder: Path) -> None:
    running = Running(folder, plan(program("a", LIVES), program("b", LIVES)))
    children = running.processes()
    assert stop(running.process, timeout_s=10)
    assert not [one for one in children.values() if alive(one) or any(of_session(one.pid))]
    assert read_state(folder) is None


def test_the_wait_grows_with_every_death_and_begins_anew_after_a_steady_life(folder: Path) -> None:
    now = [0.0]
    look_after = Supervisor(folder, plan(program("a", DIES)), clock=lambda: now[0])
    waits = []
    for _ in range(4):
        look_after.look()
        child = look_after._children[0]  # noqa: SLF001  # the wait is seen nowhere else without waiting for it
        await_death(child)
        look_after.look()
        waits.append(child.due_at - now[0])
        now[0] = child.due_at
    assert waits == [0.5, 1.0, 2.0, 4.0]
    look_after.look()
    await_death(look_after._children[0])  # noqa: SLF001  # as above
    now[0] += supervisor.STEADY_S
    look_after.look()
    assert look_after._children[0].due_at - now[0] == supervisor.FIRST_WAIT_S  # noqa: SLF001  # as above


def await_death(child: Child) -> None:
    process = child.process
    assert process is not None
    wait_until(lambda: not alive(process), timeout_s=10, what="the death")


def test_a_program_that_does_not_listen_is_killed_after_the_deadline(folder: Path) -> None:
    process = spawn([sys.executable, "-c", STUBBORN], log=folder / "log")
    wait_until(lambda: "deaf" in (folder / "log").read_text(encoding="utf-8"), timeout_s=10, what="its start")
    assert not stop(process, timeout_s=0.3)
    assert not alive(process)


def test_a_pid_that_was_given_to_another_process_is_not_ours(folder: Path) -> None:
    process = spawn([sys.executable, "-c", LIVES], log=folder / "log")
    stranger = ProcessId(process.pid, "1")
    assert not alive(stranger)
    stop(stranger, timeout_s=0.1)
    assert alive(identify(process.pid))
    stop(process, timeout_s=5)


def test_a_plan_comes_back_as_it_was_written_and_only_its_owner_reads_it(folder: Path) -> None:
    written = plan(program("a", LIVES))
    write_plan(folder, written)
    assert read_plan(folder) == written
    assert (folder / "plan.json").stat().st_mode & 0o077 == 0
