"""TLS checks against servers with certificates of every sort, at once and after STARTTLS."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest
import uvloop
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP

from services.checker.domain.hosts import HostRules
from services.checker.probes import tls, websocket
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType, Outcome
from tests import certificates
from tests.certificates import Certificate
from tests.watched import NEVER_A_NAME, Answer, check, closing, hanging, resetting, saying, service, silent, target

CLEAR = {
    "smtp": [(b"", b"220-first\r\n220 mail\r\n"), (b"EHLO", b"250-mail\r\n250 STARTTLS\r\n"), (b"STARTTLS", b"220 go\r\n")],
    "imap": [(b"", b"* OK ready\r\n"), (b"a1 STARTTLS", b"* 1 EXISTS\r\na1 OK begin\r\n")],
    "postgres": [(b"", b""), (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"S")],
}
"""What each protocol says before TLS: what is waited for, what is answered."""
NAMES = {"smtp": "SMTP", "imap": "IMAP", "postgres": "PostgreSQL"}
SECURING = "while securing the connection"
ASKING = "while asking for TLS"


@asynccontextmanager
async def secured(certificate: Certificate) -> AsyncIterator[int]:
    server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=certificate.server_context())
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def agreeing(protocol: str, certificate: Certificate, *, after: bytes = b"") -> Answer:
    """Return a server that speaks in clear until TLS is asked for; `after` is said in clear when it was agreed to."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for place, (wanted, said) in enumerate(CLEAR[protocol]):
            heard = await reader.read(100) if wanted else b""
            assert heard.startswith(wanted)
            writer.write(said + (after if place == len(CLEAR[protocol]) - 1 else b""))
        await writer.drain()
        if not after:
            await writer.start_tls(certificate.server_context())
        await reader.read()

    return answer


async def test_a_good_certificate_and_what_it_says() -> None:
    async with secured(certificates.good("localhost", "127.0.0.1", days_left=20)) as port:
        assert (await check("tls", f"tls://127.0.0.1:{port}")).outcome is Outcome.HEALTHY
        found = await check("tls", f"tls://localhost:{port}")
    assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
    told = found.facts.values["certificate"]
    assert 20.4 < told["days_left"] < 20.6
    assert found.details == {"certificate_days": told["days_left"]}
    assert "Authority trusted" in told["issuer"]
    assert "O=Good" in told["subject"]
    assert told["names"] == ("localhost", "127.0.0.1")
    assert found.facts.values["tls"]["version"] == "TLSv1.3"
    assert found.facts.values["tls"]["cipher"].startswith("TLS_")
    assert found.times.tls_ms is not None
    assert found.times.connect_ms is not None


@pytest.mark.parametrize(
    ("certificate", "message"),
    [
        (certificates.expired, "certificate has expired"),
        (certificates.self_signed, "self-signed certificate"),
    ],
)
async def test_a_bad_certificate(certificate: Callable[..., Certificate], message: str) -> None:
    """Seen red without `verify_mode` (the default of a bare context)."""
    async with secured(certificate("localhost", "127.0.0.1")) as port:
        found = await check("tls", f"tls://localhost:{port}")
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.TLS_ERROR, message)
        unverified = await check("tls", f"tls://localhost:{port}", verify_tls=False)
        assert unverified.outcome is Outcome.HEALTHY
        assert unverified.details["certificate_days"] != 0


async def test_an_unknown_authority_unless_it_is_named() -> None:
    async with secured(certificates.good("localhost", signed_by="nobody")) as port:
        found = await check("tls", f"tls://localhost:{port}")
        assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, "unable to get local issuer certificate")
        named = await check("tls", f"tls://localhost:{port}", authorities=certificates.authority("nobody").pem)
        assert named.outcome is Outcome.HEALTHY


async def test_authorities_that_cannot_be_read_are_no_outage() -> None:
    """Seen red with the error taken for the connection's."""
    tools = Tools(None, HostRules(), "/none")  # type: ignore[arg-type]  # only HTTP checks need the engine
    async with secured(certificates.good("localhost")) as port:
        found = await tls.probe(target("tls", f"tls://localhost:{port}"), tools)
        assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: the certificate authorities to trust cannot be read")
        found = await websocket.probe(target("websocket", f"wss://localhost:{port}"), tools)
        assert found.outcome is Outcome.UNKNOWN


async def test_a_certificate_for_another_name() -> None:
    """Seen red without `check_hostname`."""
    async with secured(certificates.good("other.example")) as port:
        for host, kind in (("localhost", "hostname"), ("127.0.0.1", "IPv4 address")):
            found = await check("tls", f"tls://{host}:{port}")
            wanted = f"SSL: no alternative certificate subject name matches target {kind} '{host}'"
            assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, wanted)
        assert (await check("tls", f"tls://localhost:{port}", server_name="other.example")).outcome is Outcome.HEALTHY


@pytest.mark.parametrize("protocol", CLEAR)
async def test_tls_after_starttls(protocol: str) -> None:
    async with service(agreeing(protocol, certificates.good("localhost"))) as port:
        found = await check("tls", f"tls://localhost:{port}", starttls=protocol)
    assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
    assert found.facts.values["certificate"]["names"] == ("localhost",)


async def test_tls_after_starttls_of_a_real_mail_server() -> None:
    context = certificates.good("localhost").server_context()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Sink(), tls_context=context), "127.0.0.1", 0)
    async with server:
        found = await check("tls", f"tls://localhost:{server.sockets[0].getsockname()[1]}", starttls="smtp")
        assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
        assert found.facts.values["certificate"]["names"] == ("localhost",)


async def test_a_real_postgresql_that_has_no_tls_refuses_it(postgres: str) -> None:
    place = urlsplit(postgres)
    found = await check("tls", f"tls://{place.hostname}:{place.port}", starttls="postgres")
    assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, f"the server refuses TLS, {ASKING}")


@pytest.mark.parametrize("protocol", CLEAR)
async def test_a_bad_certificate_after_starttls(protocol: str) -> None:
    async with service(agreeing(protocol, certificates.expired("localhost"))) as port:
        found = await check("tls", f"tls://localhost:{port}", starttls=protocol)
    assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, "certificate has expired")


@pytest.mark.parametrize("protocol", CLEAR)
async def test_words_slipped_in_before_tls_are_not_taken_for_the_servers(protocol: str) -> None:
    """Seen red without `_Heard.end`."""
    async with service(agreeing(protocol, certificates.good("localhost"), after=b"250 injected\r\n")) as port:
        found = await check("tls", f"tls://localhost:{port}", starttls=protocol)
    assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, f"the server goes on in clear after agreeing to TLS, {ASKING}")


@pytest.mark.parametrize(("protocol", "answer"), [("smtp", b"220 a\r\n502 no\r\n"), ("imap", b"* OK\r\na1 BAD no\r\n"), ("postgres", b"N")])
async def test_a_server_that_refuses_tls(protocol: str, answer: bytes) -> None:
    async with service(saying(answer, b"", pause_s=60)) as port:
        found = await check("tls", f"tls://localhost:{port}", starttls=protocol)
    assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, f"the server refuses TLS, {ASKING}")


@pytest.mark.parametrize("protocol", CLEAR)
async def test_a_conversation_that_goes_wrong_before_tls(protocol: str) -> None:
    async def against(answer: Answer, timeout_ms: int = 2000) -> tuple[ErrorType | None, str | None]:
        async with service(answer) as port:
            found = await check("tls", f"tls://127.0.0.1:{port}", starttls=protocol, timeout_ms=timeout_ms)
            assert found.outcome is Outcome.FAILED
            return found.error_type, found.error_message

    assert await against(silent, 300) == (ErrorType.TIMEOUT, f"not done within 300 ms, {ASKING}")
    assert await against(closing) == (ErrorType.CONNECTION_ERROR, f"connection closed, {ASKING}")
    assert await against(resetting) == (ErrorType.CONNECTION_ERROR, f"connection reset, {ASKING}")
    assert await against(saying(b"\x00nonsense\r\n", b"", pause_s=60)) == (
        ErrorType.TLS_ERROR,
        f"the answer is not {NAMES[protocol]}, {ASKING}",
    )
    if protocol != "postgres":
        drip = {"smtp": (b"220", b"-"), "imap": (b"* ", b"x")}[protocol]
        assert await against(saying(*drip, pause_s=0.02), 300) == (ErrorType.TIMEOUT, f"not done within 300 ms, {ASKING}")
        assert await against(saying(drip[0], b"x" * 1000)) == (ErrorType.TLS_ERROR, f"the answer is too long, {ASKING}")


@pytest.mark.parametrize(
    ("answer", "error_type", "message"),
    [
        (silent, ErrorType.TIMEOUT, f"not done within 300 ms, {SECURING}"),
        (closing, ErrorType.CONNECTION_ERROR, f"connection closed, {SECURING}"),
        (resetting, ErrorType.CONNECTION_ERROR, f"connection reset, {SECURING}"),
        (saying(b"220 plain\r\n", b"", pause_s=60), ErrorType.TLS_ERROR, f"wrong version number, {SECURING}"),
        (saying(b"\x16\x03\x03\x40\x00", b"\x02", pause_s=0.02), ErrorType.TIMEOUT, f"not done within 300 ms, {SECURING}"),
    ],
)
async def test_a_handshake_that_fails(answer: Answer, error_type: ErrorType, message: str) -> None:
    async with service(answer) as port:
        found = await check("tls", f"tls://127.0.0.1:{port}", timeout_ms=300)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, error_type, message)


async def test_refused_unresolvable_and_forbidden() -> None:
    async with service(silent) as port:
        pass
    assert (await check("tls", f"tls://127.0.0.1:{port}")).error_message == "connection refused, while connecting"
    assert (await check("tls", f"tls://{NEVER_A_NAME}:1")).error_message == "name not found"
    found = await check("tls", "tls://127.0.0.1:1", rules=HostRules(denied=(ip_network("127.0.0.0/8"),)))
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: 127.0.0.1 is in a denied network")


async def test_checks_that_hang_keep_nobody_waiting() -> None:
    async with (
        service(silent) as mute,
        secured(certificates.good("localhost")) as port,
        hanging(lambda: check("tls", f"tls://127.0.0.1:{mute}", timeout_ms=20_000)),
    ):
        assert (await check("tls", f"tls://localhost:{port}")).outcome is Outcome.HEALTHY


def test_on_the_loop_that_checkers_run_on() -> None:
    """It has a way of its own with sockets."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for test in (
            test_a_good_certificate_and_what_it_says(),
            test_tls_after_starttls("smtp"),
            test_a_conversation_that_goes_wrong_before_tls("imap"),
            test_a_handshake_that_fails(silent, ErrorType.TIMEOUT, f"not done within 300 ms, {SECURING}"),
            test_a_handshake_that_fails(resetting, ErrorType.CONNECTION_ERROR, f"connection reset, {SECURING}"),
        ):
            runner.run(test)
