"""DNS checks against dnsmasq, and against a scripted server for what no server does on purpose."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import uvloop

from infra.ops import programs
from infra.ops.ports import free_port
from infra.ops.processes import wait_until
from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Measurement
from services.checker.probes import KINDS
from services.checker.probes import dns as kind
from shared.contracts.codes import ErrorType, Outcome
from tests.watched import check, closing, hanging, resetting, saying, service, silent

WAITING = "while waiting for the answer"
RECORDS = """
no-resolv
no-hosts
local=/test/
host-record=www.test,192.0.2.1,2001:db8::1,300
host-record=www.test,192.0.2.2,300
cname=alias.test,www.test,120
mx-host=test,mail.test,10
txt-record=text.test,"v=spf1 include:a. -all","second"
srv-host=_sip._tcp.test,sip.test,5060,1,2
caa-record=test,0,issue,authority.example
ptr-record=1.2.0.192.in-addr.arpa,www.test
auth-server=ns.test
auth-zone=zone.test
"""

Script = Callable[[dns.message.Message], list[bytes]]


@pytest.fixture(scope="module")
def dnsmasq() -> Iterator[int]:
    """Run a DNS server that knows `RECORDS`, and give its port."""
    programs.ensure(["dnsmasq"])
    folder = Path(tempfile.mkdtemp(prefix="sla-dnsmasq-"))
    port = free_port()
    settings = f"port={port}\nlisten-address=127.0.0.1\nbind-interfaces\npid-file={folder}/pid\nuser=\n{RECORDS}"
    (folder / "conf").write_text(settings, encoding="utf-8")
    command = [str(programs.find_program("dnsmasq")), "--keep-in-foreground", f"--conf-file={folder}/conf"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: _answers(port), timeout_s=10, what=f"dnsmasq ({folder}/log)")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
            shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Scripted(asyncio.DatagramProtocol):
    """Answers each question with datagrams that a script makes."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked = 0

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  # asyncio's
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ANN401  # asyncio's
        self.asked += 1
        for answer in self.script(dns.message.from_wire(data)):
            self.transport.sendto(answer, addr)


@asynccontextmanager
async def scripted(script: Script, *, port: int = 0) -> AsyncIterator[tuple[int, Scripted]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Scripted(script), local_addr=("127.0.0.1", port))
    try:
        yield transport.get_extra_info("sockname")[1], protocol
    finally:
        transport.close()


def reply(question: dns.message.Message, *addresses: str, code: dns.rcode.Rcode = dns.rcode.NOERROR, flags: int = 0) -> dns.message.Message:
    answer = dns.message.make_response(question)
    answer.set_rcode(code)
    answer.flags |= flags
    if addresses:
        answer.answer.append(dns.rrset.from_text(question.question[0].name, 60, "IN", "A", *addresses))
    return answer


async def ask(name: str, port: int, *, timeout_ms: int = 3000, **options: Any) -> Measurement:  # noqa: ANN401  # JSON
    return await check("dns", f"dns://{name}", resolver=f"127.0.0.1:{port}", timeout_ms=timeout_ms, **options)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("name", "record_type", "answers"),
    [
        ("www.test", "A", ("192.0.2.1", "192.0.2.2")),
        ("alias.test", "A", ("192.0.2.1", "192.0.2.2")),
        ("www.test", "AAAA", ("2001:db8::1",)),
        ("alias.test", "CNAME", ("www.test",)),
        ("test", "MX", ("10 mail.test",)),
        ("text.test", "TXT", ("v=spf1 include:a. -allsecond",)),
        ("_sip._tcp.test", "SRV", ("1 2 5060 sip.test",)),
        ("test", "CAA", ('0 issue "authority.example"',)),
        ("192.0.2.1", "PTR", ("www.test",)),
        ("1.2.0.192.in-addr.arpa", "PTR", ("www.test",)),
    ],
)
async def test_records_of_every_type(dnsmasq: int, name: str, record_type: str, answers: tuple[str, ...], transport: str) -> None:
    found = await ask(name, dnsmasq, record_type=record_type, transport=transport)
    assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
    assert found.facts.values["answers"] == answers
    assert found.facts.values["answer_count"] == len(answers)
    assert found.details["answers"] == list(answers)
    assert found.times.first_byte_ms is not None
    assert (found.times.connect_ms is None) == (transport == "udp")


@pytest.mark.parametrize("record_type", ["NS", "SOA"])
async def test_records_of_a_zone(record_type: str) -> None:
    """Dnsmasq has these for names only that it is the authority of, on other addresses."""
    written = {"NS": "ns1.zone.test.", "SOA": "ns1.zone.test. admin.zone.test. 1 2 3 4 5"}[record_type]

    def script(question: dns.message.Message) -> list[bytes]:
        answer = dns.message.make_response(question)
        answer.answer.append(dns.rrset.from_text("zone.test.", 60, "IN", record_type, written))
        return [answer.to_wire()]

    async with scripted(script) as (port, _):
        found = await ask("zone.test", port, record_type=record_type)
    assert found.facts.values["answers"] == (written.replace("test.", "test"),)
    assert found.facts.values["ttl"] == 60


async def test_expected_values(dnsmasq: int) -> None:
    async def with_(*expected: str, match: str = "any", name: str = "www.test", record_type: str = "A") -> tuple[Outcome, str | None]:
        found = await ask(name, dnsmasq, record_type=record_type, expected=list(expected), expected_match=match)
        return found.outcome, found.error_message

    unmet = (Outcome.FAILED, "the answers are not what was expected")
    assert await with_("192.0.2.2") == (Outcome.HEALTHY, None)
    assert await with_("192.0.2.2", "192.0.2.3") == (Outcome.HEALTHY, None)
    assert await with_("192.0.2.3") == unmet
    assert await with_("192.0.2.2", "192.0.2.1", match="all") == (Outcome.HEALTHY, None)
    assert await with_("192.0.2.2", "192.0.2.3", match="all") == unmet
    assert await with_("WWW.test.", name="alias.test", record_type="CNAME") == (Outcome.HEALTHY, None)


async def test_a_name_and_a_record_that_are_not_there(dnsmasq: int) -> None:
    for name, record_type, message in (("none.test", "A", "name does not exist"), ("text.test", "A", "no such record")):
        found = await ask(name, dnsmasq, record_type=record_type)
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.DNS_ERROR, message)
        assert found.response_time_ms is not None


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (dns.rcode.SERVFAIL, "the resolver failed (SERVFAIL)"),
        (dns.rcode.REFUSED, "the resolver refused (REFUSED)"),
        (dns.rcode.NOTIMP, "the resolver answered NOTIMP"),
    ],
)
async def test_a_resolver_that_cannot(code: dns.rcode.Rcode, message: str) -> None:
    async with scripted(lambda question: [reply(question, code=code).to_wire()]) as (port, _):
        found = await ask("a.test", port)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.DNS_ERROR, message)


async def test_a_resolver_that_is_silent_times_out() -> None:
    async with scripted(lambda _: []) as (port, _):
        found = await ask("a.test", port, timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, f"not done within 300 ms, {WAITING}")


async def test_a_lost_datagram_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without asking again."""
    monkeypatch.setattr(kind, "ASK_AGAIN_S", 0.1)
    lost = [True, True]

    async with scripted(lambda question: [] if lost and lost.pop() else [reply(question, "192.0.2.1").to_wire()]) as (port, server):
        found = await ask("a.test", port, timeout_ms=2000)
        assert (found.outcome, server.asked) == (Outcome.HEALTHY, 3)


async def test_answers_that_are_not_to_the_question_are_passed_over() -> None:
    """A forged or late answer: another id, another question. Seen red with the first datagram taken."""

    def script(question: dns.message.Message) -> list[bytes]:
        other_id = reply(question, "192.0.2.66")
        other_id.id = question.id ^ 1
        other = reply(dns.message.make_query("b.test", "A", id=question.id), "192.0.2.66")
        return [b"", b"\x00", other_id.to_wire(), other.to_wire(), reply(question, "192.0.2.1").to_wire()]

    async with scripted(script) as (port, _):
        assert (await ask("a.test", port)).facts.values["answers"] == ("192.0.2.1",)


async def test_nonsense_is_said_so() -> None:
    async with scripted(lambda question: [question.id.to_bytes(2, "big") + b"\x81\x80\x00\x01\xff"]) as (port, _):
        found = await ask("a.test", port)
    assert (found.error_type, found.error_message) == (ErrorType.DNS_ERROR, f"the answer is not DNS, {WAITING}")


async def test_an_answer_cut_short_is_fetched_by_tcp() -> None:
    """Seen red without looking at TC."""
    many = tuple(f"192.0.2.{number}" for number in range(1, 201))

    async def by_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = dns.message.from_wire(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))
        wire = reply(question, *many).to_wire(max_size=65_535)
        writer.write(len(wire).to_bytes(2, "big") + wire)

    def cut(question: dns.message.Message) -> list[bytes]:
        return [reply(question, flags=dns.flags.TC).to_wire()]

    async with service(by_tcp) as port, scripted(cut, port=port):
        found = await ask("a.test", port)
    assert (found.outcome, found.facts.values["answer_count"], len(found.details["answers"])) == (Outcome.HEALTHY, 200, 20)


@pytest.mark.parametrize(
    ("answer", "error_type", "message"),
    [
        (silent, ErrorType.TIMEOUT, f"not done within 300 ms, {WAITING}"),
        (closing, ErrorType.CONNECTION_ERROR, f"connection closed, {WAITING}"),
        (resetting, ErrorType.CONNECTION_ERROR, f"connection reset, {WAITING}"),
        (saying(b"\xff\xff", b"x", pause_s=0.02), ErrorType.TIMEOUT, "not done within 300 ms, while reading the answer"),
        (saying(b"\xff\xff", b"x" * 10_000), ErrorType.DNS_ERROR, "the answer is not DNS, while reading the answer"),
    ],
)
async def test_tcp_that_fails(answer: Any, error_type: ErrorType, message: str) -> None:  # noqa: ANN401  # one of the services
    async with service(answer) as port:
        found = await ask("a.test", port, transport="tcp", timeout_ms=300)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, error_type, message)


async def test_a_resolver_that_is_not_there_refuses() -> None:
    port = free_port()
    found = await ask("a.test", port)
    assert (found.error_type, found.error_message) == (ErrorType.CONNECTION_ERROR, f"connection refused, {WAITING}")
    found = await ask("a.test", port, transport="tcp")
    assert (found.error_type, found.error_message) == (ErrorType.CONNECTION_ERROR, "connection refused, while connecting")


async def test_a_forbidden_resolver_is_not_asked(dnsmasq: int) -> None:
    """Seen red without asking the policy."""
    found = await check("dns", "dns://www.test", resolver=f"127.0.0.1:{dnsmasq}", rules=HostRules(denied=(ip_network("127.0.0.0/8"),)))
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: 127.0.0.1 is in a denied network")


async def test_resolvers_of_the_system_are_asked_in_turn_and_need_no_permission(dnsmasq: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = free_port()
    nobody = HostRules(denied=(ip_network("0.0.0.0/0"),))
    monkeypatch.setattr(kind, "_of_system", lambda: [("127.0.0.1", dead), ("127.0.0.1", dnsmasq)])
    assert (await check("dns", "dns://www.test", rules=nobody)).outcome is Outcome.HEALTHY
    monkeypatch.setattr(kind, "_of_system", lambda: [("127.0.0.1", dead)])
    found = await check("dns", "dns://www.test", rules=nobody)
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: this checker's resolver failed")


async def test_checks_that_hang_keep_nobody_waiting(dnsmasq: int) -> None:
    async with scripted(lambda _: []) as (port, _), hanging(lambda: ask("a.test", port, timeout_ms=20_000)):
        assert (await ask("www.test", dnsmasq)).outcome is Outcome.HEALTHY


@pytest.mark.parametrize("resolver", ["dns.example", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:53/x", "u@127.0.0.1", "[::1", "0x7f.1"])
def test_a_resolver_must_be_an_address(resolver: str) -> None:
    assert [flaw.field for flaw in KINDS["dns"].read({"resolver": resolver})[1]] == ["options.resolver"]


def test_a_resolvers_port_may_be_left_out() -> None:
    for written, place in (
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("::1", ("::1", 53)),
        ("[::1]:54", ("::1", 54)),
        ("127.0.0.1:5", ("127.0.0.1", 5)),
    ):
        assert KINDS["dns"].read({"resolver": written})[0].place == place


@pytest.mark.parametrize("url", ["dns://a..b", "dns://a.test:53", "dns://a.test/x", f"dns://{'a' * 64}.test"])
def test_a_name_that_is_none_is_a_flaw(url: str) -> None:
    flaws = KINDS["dns"].flaws
    assert flaws is not None
    assert [flaw.field for flaw in flaws(url, KINDS["dns"].read({})[0])] == ["endpoint_url"]


def test_on_the_loop_that_checkers_run_on(dnsmasq: int) -> None:
    """It has a way of its own with sockets, datagrams above all."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for test in (
            test_expected_values(dnsmasq),
            test_records_of_every_type(dnsmasq, "www.test", "A", ("192.0.2.1", "192.0.2.2"), "tcp"),
            test_a_resolver_that_is_silent_times_out(),
            test_a_resolver_that_is_not_there_refuses(),
            test_answers_that_are_not_to_the_question_are_passed_over(),
        ):
            runner.run(test)
