"""The local stack as a person uses it: up, up again, a kill, down, up again; in a folder and on ports of the test's own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from infra.ops import servers, stack
from infra.ops.ports import free_block, free_port
from infra.ops.processes import POLL_S, ProcessId, alive
from infra.ops.supervisor import read_state
from shared import topology
from tests.servers import run_folder

SECOND_START_S = 20.0


@pytest.fixture
def folder(testrun_uid: str) -> Iterator[Path]:
    path = run_folder(f"stack-{testrun_uid}-{os.getpid()}")
    yield path
    stack.erase(path)


class Command:
    """`sla-monitor` in a process of its own, with the ports of this test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        chosen = {"SLA_LOCAL_FOLDER": str(folder), "SLA_HTTP_PORT": str(free_port()), "SLA_DEMO_PORT": str(free_block(7))}
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("SLA_")} | chosen

    def __call__(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "infra.ops.cli", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self.env, cwd=stack.ROOT, timeout=180)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(POLL_S)


def everything_that_runs(folder: Path) -> list[ProcessId]:
    state = read_state(folder)
    texts = [] if state is None else [state.supervisor, *state.processes.values()]
    for kind in servers.KINDS:
        server = servers.read(folder, kind)
        texts += [] if server is None else server.processes
    return [ProcessId.parse(text) for text in texts]


@pytest.mark.slow
def test_the_whole_life_of_a_stack(folder: Path) -> None:
    """Point 1 of the issue, but for the installation: signed in once, well within a minute, quick again, nothing left."""
    run = Command(folder)
    first = run("stack", "up")
    address = re.findall(r"runs at (\S+)", first)[0]
    passwords = dict(re.findall(r"^  (admin|reporter|viewer) +(\S+)$", first, re.MULTILINE))
    assert set(passwords) == {"admin", "reporter", "viewer"}
    until(lambda: statuses(address) == ["o"] * 5, within_s=60, what="five services are well")
    signed_in = httpx.post(
        f"{address}api/v1/session", json={"username": "admin", "password": passwords["admin"]}, headers={"origin": address.rstrip("/")}
    )
    assert signed_in.is_success

    assert "already runs" in run("stack", "up")
    run("demo", "face-compare", "fail")
    until(lambda: "mo" in statuses(address), within_s=20, what="the failing one is seen")
    run("demo", "face-compare", "ok")
    assert "checker" in run("stack", "status")
    assert run("dead", "list").count(" 0\n") == len(topology.WORK_QUEUES)

    before = everything_that_runs(folder)
    run("stack", "down")
    assert [one for one in before if alive(one)] == []
    assert "does not run" in run("stack", "status", code=1)

    began = time.monotonic()
    again = run("stack", "up")
    assert time.monotonic() - began < SECOND_START_S
    assert not set(passwords.values()) & set(again.split())
    until(lambda: statuses(re.findall(r"runs at (\S+)", again)[0]) == ["o"] * 5, within_s=60, what="all are well again")

    supervised = everything_that_runs(folder)
    os.kill(supervised[0].pid, 9)
    run("stack", "down")
    assert [one for one in supervised if alive(one)] == []


def statuses(address: str) -> list[str]:
    try:
        answer = httpx.get(f"{address}api/v1/status", timeout=5)
    except httpx.TransportError:
        return []
    return sorted(service["status"] for service in answer.json().get("services", [])) if answer.is_success else []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["db", "migrate"], "SLA_ADMIN_DATABASE_URL"),
        (["dead", "list"], "SLA_BROKER_URL"),
        (["demo", "face-compare", "fail"], "do not answer"),
        (["install", "emacs"], "unknown: emacs"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(folder: Path, arguments: list[str], said: str) -> None:
    answer = Command(folder)(*arguments, code=2)
    assert said in answer
    assert "Traceback" not in answer
