"""WebSocket checks against the websockets library's server, and against servers that are none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from services.checker.domain.hosts import HostRules
from services.checker.probes import KINDS
from services.checker.probes.websocket import MAX_MESSAGE_BYTES
from shared.contracts.codes import ErrorType, Outcome
from tests import certificates
from tests.watched import NEVER_A_NAME, Answer, check, closing, hanging, resetting, saying, service, silent

WAITING = "while waiting for the answer"
READING = "while reading the answer"
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: nonsense\r\n\r\n"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send("first something else")
        await connection.send(message)


@asynccontextmanager
async def sockets(handler: Callable[[ServerConnection], Awaitable[None]] = echo, **options: Any) -> AsyncIterator[int]:  # noqa: ANN401  # the library's
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield next(iter(server.sockets)).getsockname()[1]


def only_with_key(connection: ServerConnection, request: Request) -> Response | None:
    return None if request.headers.get("X-Key") == "open sesame" else connection.respond(403, "no key\n")


def elsewhere(connection: ServerConnection, _request: Request) -> Response:
    response = connection.respond(302, "")
    response.headers["Location"] = "ws://169.254.169.254/"
    return response


async def test_a_handshake_is_enough() -> None:
    async with sockets() as port:
        found = await check("websocket", f"ws://127.0.0.1:{port}/some/path?query=1")
    assert (found.outcome, found.status_code, found.error_message) == (Outcome.HEALTHY, 101, None)
    assert found.times.first_byte_ms is not None
    assert found.times.tls_ms is None
    assert dict(found.facts.headers)["Upgrade"] == "websocket"


async def test_an_answer_is_waited_for_through_other_messages() -> None:
    """Seen red with the first message taken for the answer."""
    async with sockets() as port:
        found = await check("websocket", f"ws://127.0.0.1:{port}", send='{"ask": 1}', expect_pattern='^{"ask"')
    assert (found.outcome, found.facts.body, found.facts.values["message"]) == (Outcome.HEALTHY, b'{"ask": 1}', '{"ask": 1}')


async def test_bytes_that_are_no_text_are_sent_as_they_are() -> None:
    async with sockets() as port:
        assert (await check("websocket", f"ws://127.0.0.1:{port}", send=r"\xff\x00", expect_pattern=r"\C\x00$")).outcome is Outcome.HEALTHY


async def test_secured() -> None:
    good = certificates.good("localhost")
    async with sockets(ssl=good.server_context()) as port:
        found = await check("websocket", f"wss://localhost:{port}", send="hello", expect="hello")
        assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
        assert found.times.tls_ms is not None
        assert found.facts.values["certificate"]["names"] == ("localhost",)
        other = await check("websocket", f"wss://127.0.0.1:{port}")
        wanted = "SSL: no alternative certificate subject name matches target IPv4 address '127.0.0.1'"
        assert (other.error_type, other.error_message) == (ErrorType.TLS_ERROR, wanted)
        assert (await check("websocket", f"wss://127.0.0.1:{port}", server_name="localhost")).outcome is Outcome.HEALTHY


@pytest.mark.parametrize(
    ("made", "message"), [(certificates.expired, "certificate has expired"), (certificates.self_signed, "self-signed certificate")]
)
async def test_a_bad_certificate(made: Callable[..., certificates.Certificate], message: str) -> None:
    async with sockets(ssl=made("localhost").server_context()) as port:
        found = await check("websocket", f"wss://localhost:{port}")
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.TLS_ERROR, message)
        assert (await check("websocket", f"wss://localhost:{port}", verify_tls=False)).outcome is Outcome.HEALTHY


async def test_headers_and_a_refusal() -> None:
    async with sockets(process_request=only_with_key) as port:
        assert (await check("websocket", f"ws://127.0.0.1:{port}", headers={"X-Key": "open sesame"})).outcome is Outcome.HEALTHY
        found = await check("websocket", f"ws://127.0.0.1:{port}")
    assert (found.error_type, found.error_message, found.status_code) == (ErrorType.HTTP_ERROR, "answered 403, expected 101", 403)
    assert found.facts.body == b"no key\n"


async def test_a_subprotocol_must_be_agreed_to() -> None:
    async with sockets(subprotocols=[Subprotocol("mqtt")], select_subprotocol=lambda _c, offered: next(iter(offered), None)) as port:
        assert (await check("websocket", f"ws://127.0.0.1:{port}", subprotocol="mqtt")).outcome is Outcome.HEALTHY
    async with sockets() as port:
        found = await check("websocket", f"ws://127.0.0.1:{port}", subprotocol="mqtt")
    assert (found.error_type, found.error_message) == (ErrorType.HTTP_ERROR, "the server does not agree to the subprotocol")


async def test_a_redirect_is_not_followed() -> None:
    async with sockets(process_request=elsewhere) as port:
        found = await check("websocket", f"ws://127.0.0.1:{port}")
    assert (found.error_type, found.error_message) == (ErrorType.HTTP_ERROR, "answered 302, expected 101")


async def test_a_server_that_closes_says_so() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(1013, "later")

    async with sockets(close) as port:
        found = await check("websocket", f"ws://127.0.0.1:{port}", expect="")
    assert (found.error_type, found.error_message) == (ErrorType.CONNECTION_ERROR, f"closed by the server with code 1013, {READING}")


async def test_a_message_beyond_the_limit_is_not_read() -> None:
    async def flood(connection: ServerConnection) -> None:
        await connection.send(b"x" * (MAX_MESSAGE_BYTES + 1))

    async with sockets(flood) as port:
        found = await check("websocket", f"ws://127.0.0.1:{port}", expect="y")
    assert (found.error_type, found.error_message) == (ErrorType.HTTP_ERROR, f"a message is larger than 1048576 bytes, {READING}")


async def test_other_messages_without_end_are_no_answer() -> None:
    async def babble(connection: ServerConnection) -> None:
        while True:
            await connection.send("no")
            await asyncio.sleep(0)

    async with sockets(babble) as port:
        found = await check("websocket", f"ws://127.0.0.1:{port}", expect="yes")
    assert (found.error_type, found.error_message) == (ErrorType.ASSERTION_FAILED, "the answer is not what was expected")
    assert found.facts.body == b"no"


async def test_a_server_that_says_nothing_after_the_handshake_times_out() -> None:
    async def nothing(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with sockets(nothing) as port:
        found = await check("websocket", f"ws://127.0.0.1:{port}", expect="", timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, f"not done within 300 ms, {READING}")


@pytest.mark.parametrize(
    ("answer", "error_type", "message"),
    [
        (silent, ErrorType.TIMEOUT, f"not done within 300 ms, {WAITING}"),
        (closing, ErrorType.CONNECTION_ERROR, f"connection closed, {WAITING}"),
        (resetting, ErrorType.CONNECTION_ERROR, f"connection reset, {WAITING}"),
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n", b"", pause_s=60), ErrorType.HTTP_ERROR, "the answer is no WebSocket handshake"),
        (saying(ACCEPTED, b"", pause_s=60), ErrorType.HTTP_ERROR, "the answer is no WebSocket handshake"),
        (saying(b"HTTP/1.1 101 Switching Protocols\r\nx: ", b"x", pause_s=0.02), ErrorType.TIMEOUT, f"not done within 300 ms, {WAITING}"),
        (saying(b"HTTP/1.1 101 Switching Protocols\r\nx: ", b"x" * 1000), ErrorType.HTTP_ERROR, "the answer is no WebSocket handshake"),
        (saying(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000), ErrorType.HTTP_ERROR, "the answer is no WebSocket handshake"),
        (saying(b"HTTP/1.1 ", b"9" * 10_000), ErrorType.HTTP_ERROR, "the answer is no WebSocket handshake"),
    ],
)
async def test_a_handshake_that_fails(answer: Answer, error_type: ErrorType, message: str) -> None:
    """Seen red without `_Connection.data_received`: what was clear at once ended by its timeout."""
    async with service(answer) as port:
        found = await check("websocket", f"ws://127.0.0.1:{port}", timeout_ms=300)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, error_type, message)


async def test_a_handshake_of_tls_that_hangs() -> None:
    async with service(silent) as port:
        found = await check("websocket", f"wss://localhost:{port}", timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, "not done within 300 ms, while securing the connection")


async def test_refused_unresolvable_and_forbidden() -> None:
    async with service(silent) as port:
        pass
    assert (await check("websocket", f"ws://127.0.0.1:{port}")).error_message == "connection refused, while connecting"
    assert (await check("websocket", f"ws://{NEVER_A_NAME}/")).error_message == "name not found"
    found = await check("websocket", "ws://127.0.0.1/", rules=HostRules(denied=(ip_network("127.0.0.0/8"),)))
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: 127.0.0.1 is in a denied network")


@pytest.mark.parametrize("headers", [{"a b": "x"}, {"Host": "x"}, {"Sec-WebSocket-Key": "x"}, {"x": "a\r\nb: c"}, {"x": "€"}])
def test_headers_that_cannot_be_sent_are_flaws(headers: dict[str, str]) -> None:
    assert [flaw.field for flaw in KINDS["websocket"].read({"headers": headers})[1]] == ["options.headers"]


async def test_checks_that_hang_keep_nobody_waiting() -> None:
    async with (
        service(silent) as mute,
        sockets() as port,
        hanging(lambda: check("websocket", f"ws://127.0.0.1:{mute}", timeout_ms=20_000)),
    ):
        assert (await check("websocket", f"ws://127.0.0.1:{port}")).outcome is Outcome.HEALTHY


def test_on_the_loop_that_checkers_run_on() -> None:
    """It has a way of its own with sockets."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for test in (
            test_secured(),
            test_a_bad_certificate(certificates.expired, "certificate has expired"),
            test_a_handshake_that_fails(resetting, ErrorType.CONNECTION_ERROR, f"connection reset, {WAITING}"),
            test_a_handshake_of_tls_that_hangs(),
            test_a_message_beyond_the_limit_is_not_read(),
        ):
            runner.run(test)
