"""Look-ups that hang keep nobody else waiting, and are told from look-ups that never took place."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import dns.asyncquery
import dns.message
import dns.rcode
import dns.resolver
import pytest

from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Measurement, Target
from services.checker.probes import tcp
from services.checker.probes.names import Names
from services.checker.probes.options import NoOptions
from services.checker.probes.resolvers import APART_S, Resolvers, any_answers
from shared.contracts.codes import ErrorType, Outcome
from tests.waiting import until

if TYPE_CHECKING:
    from services.checker.probes.tools import Tools

ENDS_WITH_A_LOOKUP_HANGING = """
import asyncio, threading
from services.checker.probes import names
names.socket.getaddrinfo = lambda *_a, **_k: threading.Event().wait()

async def answers():
    return True

async def main():
    try:
        await names.Names(resolvers=names.Resolvers(answers)).look_up("hangs", 1, asyncio.get_running_loop().time() + 0.1)
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


async def answers() -> bool:
    return True


async def ask(names: Names, host: str, timeout_ms: int = 300) -> Measurement:
    return await tcp.probe(
        Target("s", "tcp", f"tcp://{host}:1", 60_000, timeout_ms, NoOptions(), 0, 1),
        cast("Tools", SimpleNamespace(rules=HostRules(), names=names)),
    )


async def test_names_that_hang_keep_no_other_name_waiting(resolver: Resolver) -> None:
    """Seen red with 8 threads, as many as the loop's default executor has on four cores."""
    names = Names(resolvers=Resolvers(answers))
    hanging = [asyncio.create_task(ask(names, f"h{number}", 5000)) for number in range(50)]

    async def all_begun() -> bool:
        return len(resolver.asked) == 50

    await until(all_begun, within_s=5, what="50 look-ups at once")
    assert (await ask(names, "good", 2000)).error_message == "connection refused, while connecting"
    resolver.released.set()
    assert {one.error_message for one in await asyncio.gather(*hanging)} == {"name not found"}


async def test_a_lookup_that_no_thread_was_free_for_is_unknown_and_one_that_hangs_failed(resolver: Resolver) -> None:
    """Seen red without `NeverBegun`."""
    names = Names(threads=2, resolvers=Resolvers(answers))
    first = await asyncio.gather(*(ask(names, host) for host in ("h1", "h2", "good")))
    assert [one.outcome for one in first] == [Outcome.FAILED, Outcome.FAILED, Outcome.UNKNOWN]
    assert first[0].error_type is ErrorType.TIMEOUT
    resolver.released.set()
    assert (await ask(names, "other", 2000)).error_message == "connection refused, while connecting"


async def test_a_name_that_hangs_holds_one_thread_however_often_it_is_checked(resolver: Resolver) -> None:
    """Seen red without sharing."""
    names = Names(threads=2, resolvers=Resolvers(answers))
    for _ in range(3):
        assert (await ask(names, "hangs", 50)).error_type is ErrorType.TIMEOUT
    assert resolver.asked == ["hangs"]
    assert (await ask(names, "good", 2000)).outcome is Outcome.FAILED


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no resolver tell anything of a name."""

    def getaddrinfo(host: str, port: int, **_kind: int) -> list[Any]:
        assert port
        raise socket.gaierror({"fail": socket.EAI_FAIL, "none": socket.EAI_NONAME}.get(host, socket.EAI_AGAIN), "")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("host", ["again", "fail"])
async def test_a_name_of_which_nothing_is_told_fails_only_if_resolvers_answer_at_all(host: str) -> None:
    """Seen red with "name not found" for both, whatever the resolvers do."""
    looks = []

    async def silent() -> bool:
        looks.append(1)
        return False

    found = await ask(Names(resolvers=Resolvers(silent)), host)
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: this checker's resolver failed")
    found = await ask(Names(resolvers=Resolvers(answers)), host)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.DNS_ERROR, "the look-up failed")
    assert (await ask(Names(resolvers=Resolvers(silent)), "none")).error_message == "name not found"
    assert len(looks) == 1, "a name that does not exist is an answer"


async def test_a_name_that_hangs_because_no_resolver_answers_is_unknown(resolver: Resolver) -> None:
    """Seen red with time-outs told as they are."""

    async def silent() -> bool:
        return False

    found = await ask(Names(resolvers=Resolvers(silent)), "hangs", 50)
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: this checker's resolver failed")
    assert resolver.asked == ["hangs"]


@pytest.mark.usefixtures("failing")
async def test_looks_are_shared_and_a_second_apart_and_none_is_older_than_its_question() -> None:
    """Mutants seen red: a look for each name; the last look's answer given whenever it was; no second between looks."""
    loop = asyncio.get_running_loop()
    looks: list[float] = []

    async def look() -> bool:
        looks.append(loop.time())
        return len(looks) == 1

    names = Names(resolvers=Resolvers(look))
    first = await asyncio.gather(*(ask(names, f"n{number}") for number in range(20)))
    then = await ask(names, "later")
    assert {one.outcome for one in first} == {Outcome.FAILED}
    assert then.outcome is Outcome.UNKNOWN
    assert len(looks) == 2
    assert looks[1] - looks[0] >= APART_S


@pytest.mark.parametrize(
    ("rcode", "answered"), [(dns.rcode.NOERROR, True), (dns.rcode.REFUSED, True), (dns.rcode.SERVFAIL, False), (None, False)]
)
async def test_what_counts_as_an_answer(rcode: dns.rcode.Rcode | None, *, answered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with any datagram taken for an answer, and with silence taken for one."""

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ANN401  # asyncio's
            response = dns.message.make_response(dns.message.from_wire(data))
            response.set_rcode(dns.rcode.NOERROR if rcode is None else rcode)
            if rcode is not None:
                self.transport.sendto(response.to_wire(), addr)

    loop = asyncio.get_running_loop()
    transport, _server = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(dns.resolver, "Resolver", lambda: SimpleNamespace(nameservers=["127.0.0.1"]))
    ask_it = dns.asyncquery.udp
    monkeypatch.setattr(dns.asyncquery, "udp", lambda question, place, **more: ask_it(question, place, port=port, **more))
    try:
        assert await any_answers() is answered
    finally:
        transport.close()


def test_a_process_ends_though_a_lookup_hangs() -> None:
    """Seen red with threads that are no daemons."""
    ended = subprocess.run([sys.executable, "-c", ENDS_WITH_A_LOOKUP_HANGING], capture_output=True, text=True, timeout=20, check=True)
    assert ended.stdout == "TimeoutError\n"
