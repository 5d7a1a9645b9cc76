"""Probes against a server that misbehaves in every way that matters."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Measurement, Target
from services.checker.probes import KINDS, PROBES
from services.checker.probes.engine import EngineStopped, open_engine
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType, Outcome
from tests.waiting import until

ANYWHERE = HostRules()
CERTIFICATE = Path(__file__).parent / "untrusted.pem"
BIG = 5_000_000
NEVER_A_NAME = "a" * 64 + ".invalid"
"""A label of 64 characters is no name anywhere: no server is asked."""

ANSWERS = {
    "/ok": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "/fail": b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n",
    "/cut": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
    "/nothing": b"",
    "/garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
    "/to-ok": b"HTTP/1.1 302 Found\r\nlocation: /ok\r\ncontent-length: 0\r\n\r\n",
    "/round": b"HTTP/1.1 302 Found\r\nlocation: /round\r\ncontent-length: 0\r\n\r\n",
    "/to-file": b"HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n",
    "/to-metadata": b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n",
}


@dataclass(slots=True)
class Site:
    """The server's port, and how much of the big body it managed to send."""

    port: int = 0
    sent: int = 0
    methods: tuple[str, ...] = ()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            method, path, *_ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
            self.methods += (method,)
            if path == "/hang":
                await reader.read()
            elif path == "/reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif path == "/huge":
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {BIG}\r\n\r\n".encode())
                while self.sent < BIG:
                    writer.write(bytes(50_000))
                    await writer.drain()
                    self.sent += 50_000
            else:
                writer.write(ANSWERS[path])
                await writer.drain()
        writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


@pytest.fixture
async def secure_port() -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server = await asyncio.start_server(Site().answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def free_port() -> Iterator[int]:
    """Give a port that refuses: bound, so that nobody else takes it, but not listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def check(url: str, *, timeout_ms: int = 2000, rules: HostRules = ANYWHERE, trusted: bool = False, **options: Any) -> Measurement:  # noqa: ANN401  # JSON
    kind = "tcp" if url.startswith("tcp") else "http"
    target = Target("s", kind, url, 60_000, timeout_ms, KINDS[kind].read(options)[0], 0, 1)
    ca_file = str(CERTIFICATE) if trusted else ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    async with open_engine(rules=rules, ca_file=ca_file, most=10, on_failure=pytest.fail) as engine:
        return await PROBES[kind](target, Tools(engine, rules, "/none"))


async def test_a_good_answer(site: Site) -> None:
    found = await check(f"http://127.0.0.1:{site.port}/ok")
    assert (found.outcome, found.status_code, found.error_message) == (Outcome.HEALTHY, 200, None)
    assert found.response_time_ms is not None
    assert found.times.connect_ms is not None
    assert found.times.first_byte_ms is not None
    assert found.times.tls_ms is None


@pytest.mark.parametrize(
    ("path", "options", "error_type", "message"),
    [
        ("/fail", {}, ErrorType.HTTP_ERROR, "answered 500, expected 2xx"),
        ("/hang", {}, ErrorType.TIMEOUT, "not done within 300 ms, while waiting for the answer"),
        ("/reset", {}, ErrorType.CONNECTION_ERROR, "connection reset, while waiting for the answer"),
        ("/nothing", {}, ErrorType.CONNECTION_ERROR, "connection closed without an answer, while waiting for the answer"),
        ("/cut", {}, ErrorType.CONNECTION_ERROR, "answer cut short, while reading the answer"),
        ("/garbage", {}, ErrorType.HTTP_ERROR, "the answer is not HTTP"),
        ("/to-ok", {"follow_redirects": False}, ErrorType.HTTP_ERROR, "answered 302, expected 2xx"),
        ("/round", {}, ErrorType.HTTP_ERROR, "more than 5 redirects"),
        ("/to-file", {}, ErrorType.HTTP_ERROR, "redirected to something that is not HTTP"),
    ],
)
async def test_a_bad_answer(site: Site, path: str, options: dict[str, Any], error_type: ErrorType, message: str) -> None:
    found = await check(f"http://127.0.0.1:{site.port}{path}", timeout_ms=300, **options)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, error_type, message)


async def test_a_redirect_is_followed_by_choice(site: Site) -> None:
    assert (await check(f"http://127.0.0.1:{site.port}/to-ok")).status_code == 200


async def test_a_redirect_to_the_clouds_metadata_is_not_followed(site: Site) -> None:
    """Seen red without OPENSOCKETFUNCTION."""
    found = await check(f"http://127.0.0.1:{site.port}/to-metadata")
    assert found.outcome is Outcome.UNKNOWN
    assert found.error_message is not None
    assert "169.254.169.254 is link-local" in found.error_message


async def test_a_name_that_leads_into_a_denied_network_is_not_connected_to(site: Site) -> None:
    rules = HostRules(denied=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
    for url in (f"http://localhost:{site.port}/ok", f"tcp://localhost:{site.port}"):
        found = await check(url, rules=rules)
        assert found.outcome is Outcome.UNKNOWN
        assert "denied network" in (found.error_message or "")
    assert site.methods == ()


async def test_only_so_much_of_a_huge_body_is_read(site: Site) -> None:
    found = await check(f"http://127.0.0.1:{site.port}/huge", max_body_bytes=100_000)
    assert (found.outcome, found.status_code) == (Outcome.HEALTHY, 200)
    assert site.sent < BIG


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PUT", "DELETE"])
async def test_the_method_is_the_one_that_was_chosen(site: Site, method: str) -> None:
    assert (await check(f"http://127.0.0.1:{site.port}/ok", method=method)).outcome is Outcome.HEALTHY
    assert site.methods == (method,)


async def test_a_certificate_that_nobody_trusts_is_a_tls_error(secure_port: int) -> None:
    found = await check(f"https://127.0.0.1:{secure_port}/ok")
    assert (found.outcome, found.error_type) == (Outcome.FAILED, ErrorType.TLS_ERROR)
    assert found.error_message == "self-signed certificate"


async def test_a_trusted_or_an_unverified_certificate_will_do(secure_port: int) -> None:
    url = f"https://127.0.0.1:{secure_port}/ok"
    for found in (await check(url, trusted=True), await check(url, verify_tls=False)):
        assert found.outcome is Outcome.HEALTHY
        assert found.times.tls_ms is not None


async def test_tls_to_a_plain_server_hangs_in_the_handshake(site: Site) -> None:
    found = await check(f"https://127.0.0.1:{site.port}/ok", timeout_ms=300)
    assert found.error_message == "not done within 300 ms, while securing the connection"


async def test_a_closed_port_refuses(free_port: int) -> None:
    for url in (f"http://127.0.0.1:{free_port}/", f"tcp://127.0.0.1:{free_port}"):
        found = await check(url)
        assert (found.error_type, found.error_message) == (ErrorType.CONNECTION_ERROR, "connection refused, while connecting")


async def test_a_name_that_is_not_there_is_a_dns_error() -> None:
    for url in (f"http://{NEVER_A_NAME}/", f"tcp://{NEVER_A_NAME}:1"):
        found = await check(url)
        assert (found.error_type, found.error_message) == (ErrorType.DNS_ERROR, "name not found")


async def test_an_open_port_is_healthy(site: Site) -> None:
    found = await check(f"tcp://127.0.0.1:{site.port}")
    assert (found.outcome, found.status_code) == (Outcome.HEALTHY, None)
    assert found.response_time_ms is not None


async def test_more_hanging_checks_than_select_could_watch_delay_nobody(site: Site) -> None:
    """1,100 connections are beyond descriptor 1023; seen red with a `most` of 1,000."""
    rules = HostRules()
    options = KINDS["http"].read({})[0]
    hanging = Target("h", "http", f"http://127.0.0.1:{site.port}/hang", 60_000, 10_000, options, 0, 1)
    good = Target("g", "http", f"http://127.0.0.1:{site.port}/ok", 60_000, 2500, options, 0, 1)
    async with open_engine(rules=rules, ca_file=str(CERTIFICATE), most=2000, on_failure=pytest.fail) as engine:
        tools = Tools(engine, rules, "/none")
        held = [asyncio.ensure_future(PROBES["http"](hanging, tools)) for _ in range(1100)]

        async def all_begun() -> bool:
            return len(site.methods) == len(held)

        await until(all_begun, within_s=8, what="1,100 requests under way at once")
        found = await PROBES["http"](good, tools)
        assert found.outcome is Outcome.HEALTHY
        assert not any(one.done() for one in held)
    assert all(isinstance(one, EngineStopped) for one in await asyncio.gather(*held, return_exceptions=True))


async def test_closing_the_engine_gives_up_what_is_in_flight(site: Site) -> None:
    target = Target("h", "http", f"http://127.0.0.1:{site.port}/hang", 60_000, 60_000, KINDS["http"].read({})[0], 0, 1)
    async with open_engine(rules=HostRules(), ca_file=str(CERTIFICATE), most=1, on_failure=pytest.fail) as engine:
        tools = Tools(engine, HostRules(), "/none")
        checks = [asyncio.ensure_future(PROBES["http"](target, tools)) for _ in range(3)]

        async def begun() -> bool:
            return bool(site.methods)

        await until(begun, within_s=5, what="the first request")
    assert [type(one) for one in await asyncio.gather(*checks, return_exceptions=True)] == [EngineStopped] * 3
