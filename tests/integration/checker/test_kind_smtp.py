"""SMTP checks against aiosmtpd."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from services.checker.probes import KINDS
from shared.contracts.codes import ErrorType, Outcome
from tests.certificates import Certificate, good
from tests.proxy import running_proxy
from tests.watched import BAD_CERTIFICATES, babbling, bad, check, fronted, service

SIGN_IN: dict[str, Any] = {"username": "watcher", "password": "right"}


class Log:
    """What was done with mail: nothing must be."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.greeted: list[str] = []

    async def handle_EHLO(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.greeted.append(hostname)
        return responses

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        self.mails.append(envelope)
        return "250 OK"


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:  # noqa: ANN401  # aiosmtpd's
    good_one = isinstance(data, LoginPassword) and (data.login, data.password) == (b"watcher", b"right")
    return AuthResult(success=good_one, handled=False)


@asynccontextmanager
async def running(log: Log | None = None, *, certificate: Certificate | None = None, clear: bool = False) -> AsyncIterator[int]:
    """Serve mail: with STARTTLS if there is a certificate; sign-ins in clear only if `clear`."""
    context = certificate.server_context() if certificate else None
    loop = asyncio.get_running_loop()
    servers: list[SMTP] = []

    def make() -> SMTP:
        server = SMTP(
            log or Log(), hostname="mail.test", tls_context=context, authenticator=_authenticate, auth_require_tls=not clear, loop=loop
        )
        servers.append(server)
        return server

    listener = await loop.create_server(make, "127.0.0.1", 0)
    try:
        yield int(listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        for server in servers:
            if server.transport is not None:
                server.transport.close()
        await asyncio.sleep(0)


async def test_a_greeting_is_healthy_and_no_mail_is_sent() -> None:
    log = Log()
    async with running(log) as port:
        found = await check("smtp", f"smtp://127.0.0.1:{port}", helo="checker.test")
    assert (found.outcome, found.error_message, found.details) == (Outcome.HEALTHY, None, {"tls": False})
    assert "8bitmime" in found.facts.values["extensions"]
    assert (log.greeted, log.mails) == (["checker.test"], [])


@pytest.mark.parametrize(("mode", "secure"), [("auto", True), ("required", True), ("never", False)])
async def test_starttls_is_made_by_choice(mode: str, *, secure: bool) -> None:
    async with running(certificate=good("localhost")) as port:
        found = await check("smtp", f"smtp://localhost:{port}", starttls=mode)
    assert (found.outcome, found.error_message, found.details) == (Outcome.HEALTHY, None, {"tls": secure})
    assert (found.times.tls_ms is not None) == secure
    assert found.facts.values.get("certificate", {}).get("names") == (("localhost",) if secure else None)


async def test_a_sign_in_over_starttls_is_healthy() -> None:
    async with running(certificate=good("localhost")) as port:
        found = await check("smtp", f"smtp://localhost:{port}", **SIGN_IN)
        assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
        wrong = await check("smtp", f"smtp://localhost:{port}", username="watcher", password="hunter2")
    assert (wrong.error_type, wrong.error_message) == (
        ErrorType.CONNECTION_ERROR,
        "refused: wrong user name or password (535), while signing in",
    )


async def test_a_password_does_not_go_over_a_line_in_clear_unless_told_to() -> None:
    async with running(clear=True) as port:
        found = await check("smtp", f"smtp://127.0.0.1:{port}", **SIGN_IN)
        assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, "the server offers no TLS, while securing the connection")
        assert (await check("smtp", f"smtp://127.0.0.1:{port}", starttls="never", **SIGN_IN)).outcome is Outcome.HEALTHY


async def test_starttls_that_is_required_and_not_offered_is_a_tls_error() -> None:
    async with running() as port:
        found = await check("smtp", f"smtp://127.0.0.1:{port}", starttls="required")
    assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, "the server offers no TLS, while securing the connection")


async def test_a_server_where_nobody_can_sign_in_refuses() -> None:
    async with running() as port:
        found = await check("smtp", f"smtp://127.0.0.1:{port}", starttls="never", **SIGN_IN)
    assert found.error_message == "refused: no way to sign in is offered, while signing in"


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("sort", BAD_CERTIFICATES)
async def test_tls_with_a_bad_certificate(scheme: str, sort: str) -> None:
    certificate, words = bad(sort)
    async with running(certificate=certificate, clear=True) as inner, fronted(inner, certificate) as front:
        url = f"{scheme}://localhost:{inner if scheme == 'smtp' else front}"
        found = await check("smtp", url)
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.TLS_ERROR, words)
        unverified = await check("smtp", url, verify_tls=False)
        assert (unverified.outcome, unverified.details) == (Outcome.HEALTHY, {"tls": True})


async def test_a_sign_in_over_tls_from_the_start_is_healthy() -> None:
    async with running(clear=True) as inner, fronted(inner, good("localhost")) as front:
        found = await check("smtp", f"smtps://localhost:{front}", **SIGN_IN)
    assert (found.outcome, found.error_message, found.details) == (Outcome.HEALTHY, None, {"tls": True})
    assert found.facts.values["certificate"]["names"] == ("localhost",)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"554 hunter2 go away 4711\r\n", "refused: code 554, while waiting for the greeting"),
        (b"421 too busy\r\n", "refused: code 421, while waiting for the greeting"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the answer is not SMTP, while waiting for the greeting"),
        (b"220 ready\r\n", "not done within 300 ms, while asking"),
    ],
)
async def test_a_greeting_that_is_none(said: bytes, message: str) -> None:
    async with service(babbling(said)) as port:
        found = await check("smtp", f"smtp://127.0.0.1:{port}", timeout_ms=300)
    assert (found.outcome, found.error_message) == (Outcome.FAILED, message)


async def test_a_stalled_handshake_times_out_in_its_phase() -> None:
    async with running() as port, running_proxy(f"smtp://127.0.0.1:{port}") as proxy:
        proxy.stall()
        found = await check("smtp", f"smtps://127.0.0.1:{proxy.port}", timeout_ms=300)
    assert found.error_message == "not done within 300 ms, while securing the connection"


@pytest.mark.parametrize(
    "options",
    [{"helo": "a b"}, {"helo": ""}, {"helo": "a\r\nMAIL FROM:<x>"}, {"username": "a\r\nb"}, {"starttls": "maybe"}, {"strange": 1}],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any]) -> None:
    assert [flaw.field for flaw in KINDS["smtp"].read(options)[1]] == [f"options.{next(iter(options))}"]
