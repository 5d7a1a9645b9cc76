"""Look-ups that hang keep nobody else waiting, and are told from look-ups that never took place."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Measurement, Target
from services.checker.probes import tcp
from services.checker.probes.names import Names
from services.checker.probes.options import NoOptions
from shared.contracts.codes import ErrorType, Outcome
from tests.waiting import until

if TYPE_CHECKING:
    from services.checker.probes.tools import Tools

ENDS_WITH_A_LOOKUP_HANGING = """
import asyncio, threading
from services.checker.probes import names
names.socket.getaddrinfo = lambda *_a, **_k: threading.Event().wait()

async def main():
    try:
        await names.Names().look_up("hangs", 1, asyncio.get_running_loop().time() + 0.1)
    except TimeoutError as error:
        print(type(error).__name__)

asyncio.run(main())
"""


class Resolver:
    """Hangs for names that begin with h, knows all others as 127.0.0.1."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()

    def getaddrinfo(self, host: str, port: int, **_kind: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        self.asked.append(host)
        if host.startswith("h"):
            self.released.wait(20)
            raise socket.gaierror(socket.EAI_NONAME, "")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    yield found
    found.released.set()


async def ask(names: Names, host: str, timeout_ms: int = 300) -> Measurement:
    return await tcp.probe(
        Target("s", "tcp", f"tcp://{host}:1", 60_000, timeout_ms, NoOptions(), 0, 1),
        cast("Tools", SimpleNamespace(rules=HostRules(), names=names)),
    )


async def test_names_that_hang_keep_no_other_name_waiting(resolver: Resolver) -> None:
    """Seen red with 8 threads, as many as the loop's default executor has on four cores."""
    names = Names()
    hanging = [asyncio.create_task(ask(names, f"h{number}", 5000)) for number in range(50)]

    async def all_begun() -> bool:
        return len(resolver.asked) == 50

    await until(all_begun, within_s=5, what="50 look-ups at once")
    assert (await ask(names, "good", 2000)).error_message == "connection refused, while connecting"
    resolver.released.set()
    assert {one.error_message for one in await asyncio.gather(*hanging)} == {"name not found"}


async def test_a_lookup_that_no_thread_was_free_for_is_unknown_and_one_that_hangs_failed(resolver: Resolver) -> None:
    """Seen red without `NeverBegun`."""
    names = Names(threads=2)
    first = await asyncio.gather(*(ask(names, host) for host in ("h1", "h2", "good")))
    assert [one.outcome for one in first] == [Outcome.FAILED, Outcome.FAILED, Outcome.UNKNOWN]
    assert first[0].error_type is ErrorType.TIMEOUT
    resolver.released.set()
    assert (await ask(names, "other", 2000)).error_message == "connection refused, while connecting"


async def test_a_name_that_hangs_holds_one_thread_however_often_it_is_checked(resolver: Resolver) -> None:
    """Seen red without sharing."""
    names = Names(threads=2)
    for _ in range(3):
        assert (await ask(names, "hangs", 50)).error_type is ErrorType.TIMEOUT
    assert resolver.asked == ["hangs"]
    assert (await ask(names, "good", 2000)).outcome is Outcome.FAILED


def test_a_process_ends_though_a_lookup_hangs() -> None:
    """Seen red with threads that are no daemons."""
    ended = subprocess.run([sys.executable, "-c", ENDS_WITH_A_LOOKUP_HANGING], capture_output=True, text=True, timeout=20, check=True)
    assert ended.stdout == "TimeoutError\n"
