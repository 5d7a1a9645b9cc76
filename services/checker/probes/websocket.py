"""WebSocket checks: the opening handshake (RFC 6455), and by choice a message and its answer."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from services.checker.domain.kinds import Flaw, Kind, Source
from services.checker.domain.target import Facts, Measurement, Target
from services.checker.probes import certificate
from services.checker.probes.dial import Dialled, dial
from services.checker.probes.exchange import USER_AGENT
from services.checker.probes.expect import NOT_AS_EXPECTED, Saying
from services.checker.probes.options import reader
from services.checker.probes.secure import TlsOptions
from services.checker.probes.talk import Ended, Talk, talking, timed
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType

ENDPOINT = "ws:// or wss:// with a host"
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_MESSAGES = 100
"""How many messages may come before the expected one."""
MAX_HEADERS = 30
MESSAGE_TOO_BIG = 1009
"""The code that a connection is closed with for a message beyond the limit: RFC 6455, 7.4.1."""
SWITCHING_PROTOCOLS = 101
GOODBYE_S = 0.2
"""How long the closing handshake may take: the check is over by then."""

T = TypeVar("T")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
"""A token: RFC 9110, 5.6.2."""
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,4000}")
_OURS = frozenset({"host", "upgrade", "connection", "content-length", "transfer-encoding"})


class _Connection(ClientConnection):
    """The library's connection, which tells why it was lost, and waits no longer for the rest of an answer that is none.

    `shown` is what assertions see of the certificate.
    """

    lost: Exception | None = None
    shown: Mapping[str, Any] = MappingProxyType({})

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.handshake_exc is not None and not self.response_rcvd.done():
            self.response_rcvd.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        super().connection_lost(exc)


class WebSocketOptions(Saying, TlsOptions):
    """What is asked for in the handshake, what is sent then, and what is expected."""

    headers: dict[str, SecretStr] = Field(default_factory=dict, max_length=MAX_HEADERS)
    """Headers to send with the handshake. Their values are secrets."""
    subprotocol: str | None = Field(default=None, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$")
    """The subprotocol to ask for; a server that does not agree to it is failed."""

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _TOKEN.fullmatch(name) or name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
                message = "must be named as headers are, and none that belongs to the handshake itself"
                raise ValueError(message)
            if not _VALUE.fullmatch(value.get_secret_value()):
                message = "must have values of one line, with characters of Latin-1"
                raise ValueError(message)
        return headers


def _flaws(url: str, _options: object) -> list[Flaw]:
    try:
        parse_uri(url)
        strange = bool(urlsplit(url).fragment)
    except InvalidURI:
        strange = True
    return [Flaw("endpoint_url", f"must be {ENDPOINT}, and no #")] if strange else []


KIND = Kind(
    "websocket",
    "WebSocket",
    ("ws", "wss"),
    ENDPOINT,
    reader(WebSocketOptions),
    WebSocketOptions.model_json_schema(),
    needs_port=False,
    sources={
        **timed("name_lookup", "connect", "tls", "first_byte"),
        "certificate": certificate.SOURCE,
        "code": Source("number"),
        "header": Source("texts", None),
        "message": Source("text"),
        "json": Source("json", None),
    },
    flaws=_flaws,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Open a WebSocket once. Redirects are not followed."""
    return await talking(target, tools, _ask)


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    options: WebSocketOptions = talk.target.options
    secure = urlsplit(talk.target.endpoint_url).scheme == "wss"
    way = await dial(talk, tools, default_port=443 if secure else 80)
    async with _opened(talk, tools, way, options, secure=secure) as connection:
        refusal = await _shake_hands(talk, connection, options)
        if refusal is not None:
            return refusal
        if options.said:
            async with talk.phase("sending"):
                await _carried(talk, connection, connection.send(options.said, text=_is_text(options.said)))
        answer = await _listen(talk, connection, options) if options.listens else talk.healthy(facts=_facts(connection, b""))
        return replace(answer, status_code=SWITCHING_PROTOCOLS)


@asynccontextmanager
async def _opened(talk: Talk, tools: Tools, way: Dialled, options: WebSocketOptions, *, secure: bool) -> AsyncIterator[_Connection]:
    """Hand the dialled connection over to the library, secured if it is to be; gone when this is left."""
    uri = parse_uri(talk.target.endpoint_url)
    wanted = [Subprotocol(options.subprotocol)] if options.subprotocol else None

    def made() -> _Connection:
        protocol = ClientProtocol(uri, subprotocols=wanted, max_size=MAX_MESSAGE_BYTES)
        return _Connection(protocol, ping_interval=None, close_timeout=None)

    try:
        tls: dict[str, Any] = {"ssl": options.context(tools), "server_hostname": options.server_name or way.host} if secure else {}
        async with talk.phase("securing the connection", "tls_ms" if secure else None):
            _, connection = await asyncio.get_running_loop().create_connection(made, sock=way.connection, **tls)
    except BaseException:
        way.connection.close()
        raise
    try:
        connection.shown = certificate.shown(connection.transport.get_extra_info("ssl_object"), tools.clock())
        yield connection
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await connection.close()
    finally:
        connection.transport.abort()


async def _shake_hands(talk: Talk, connection: _Connection, options: WebSocketOptions) -> Measurement | None:
    """Return None if both sides now speak WebSocket, or what the service answered instead."""
    headers = {name: value.get_secret_value() for name, value in options.headers.items()}
    async with talk.phase("waiting for the answer", "first_byte_ms"):
        try:
            await connection.handshake(headers, USER_AGENT)
        except InvalidStatus as error:
            response = error.response
            words = f"answered {response.status_code}, expected 101"
            found = talk.unwell(ErrorType.HTTP_ERROR, words, facts=Facts(body=bytes(response.body or b""), values=connection.shown))
            return replace(found, status_code=response.status_code)
        except InvalidHandshake as error:
            if isinstance(connection.lost, OSError):
                raise connection.lost from None
            if isinstance(error.__cause__, EOFError):
                raise error.__cause__ from None
            raise Ended(talk.unwell(ErrorType.HTTP_ERROR, "the answer is no WebSocket handshake")) from None
    if options.subprotocol and connection.subprotocol != options.subprotocol:
        return talk.unwell(ErrorType.HTTP_ERROR, "the server does not agree to the subprotocol")
    return None


async def _listen(talk: Talk, connection: _Connection, options: WebSocketOptions) -> Measurement:
    """Read messages until one is as expected."""
    message = b""
    async with talk.phase("reading the answer"):
        for _ in range(MAX_MESSAGES):
            message = await _carried(talk, connection, connection.recv(decode=False))
            if options.met_by(message):
                return talk.healthy(facts=_facts(connection, message))
    return talk.unwell(ErrorType.ASSERTION_FAILED, NOT_AS_EXPECTED, facts=_facts(connection, message))


async def _carried(talk: Talk, connection: _Connection, doing: Awaitable[T]) -> T:
    """Return what was done. Raises `Ended` if the connection is closed instead."""
    try:
        return await doing
    except ConnectionClosed as closed:
        if closed.sent is not None and not closed.rcvd_then_sent and closed.sent.code == MESSAGE_TOO_BIG:
            raise talk.failure(ErrorType.HTTP_ERROR, f"a message is larger than {MAX_MESSAGE_BYTES} bytes") from closed
        if closed.rcvd is not None:
            raise talk.failure(ErrorType.CONNECTION_ERROR, f"closed by the server with code {closed.rcvd.code}") from closed
        if closed.sent is not None:
            raise talk.failure(ErrorType.HTTP_ERROR, "the answer breaks WebSocket") from closed
        raise talk.failure_of(connection.lost if isinstance(connection.lost, OSError) else EOFError()) from closed


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


def _facts(connection: _Connection, message: bytes) -> Facts:
    headers = tuple(connection.response.headers.raw_items()) if connection.response is not None else ()
    said = {"message": message.decode(errors="replace")} if message else {}
    return Facts(headers=headers, body=message, values={**connection.shown, **said})
