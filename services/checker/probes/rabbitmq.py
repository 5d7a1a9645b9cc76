"""RabbitMQ checks: sign in over AMQP 0-9-1, open a channel, and look at one queue if one is named.

A refusal is told by its reply code (AMQP 0-9-1, "Constants"), never by the server's text.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import aiormq
from aiormq import channel, connection, exceptions
from pydantic import Field, SecretStr

from services.checker.domain.kinds import Flaw, Kind, Source
from services.checker.domain.target import Facts, Measurement, Target
from services.checker.probes.dial import dial
from services.checker.probes.line import LAST_WORDS_S, SOURCES, Line, carried
from services.checker.probes.options import reader
from services.checker.probes.secure import TlsOptions
from services.checker.probes.talk import Talk, talking
from services.checker.probes.tools import Tools

PORT, SECURE_PORT = 5672, 5671
ENDPOINT = "amqp://host, amqps://host:port or amqp://host:port/vhost"
REPLIES = {
    311: "content too large",
    313: "no consumers",
    320: "shutting down",
    402: "no such virtual host",
    403: "access refused",
    404: "not found",
    405: "locked by another connection",
    406: "precondition failed",
    501: "frame error",
    502: "syntax error",
    503: "command invalid",
    504: "channel error",
    505: "unexpected frame",
    506: "out of resources",
    530: "not allowed, or no such virtual host",
    540: "not implemented",
    541: "internal error",
}
"""What reply codes mean."""


class RabbitmqOptions(TlsOptions):
    """How to sign in to RabbitMQ, and what to look at."""

    username: str = Field(default="guest", min_length=1, max_length=200)
    """Who signs in. A user without any permission is enough, unless a queue is looked at."""
    password: SecretStr = SecretStr("guest")
    """The password."""
    queue: str = Field(default="", max_length=255)
    """A queue that must be there; assertions see its ready messages and its consumers."""


_CODES_OF: dict[type[BaseException], int] = {
    kind: code for mapping in (connection.EXCEPTION_MAPPING, channel.EXCEPTION_MAPPING) for code, kind in mapping.items()
}
"""aiormq gives the code by the class."""


def _flaws(url: str, _options: object) -> list[Flaw]:
    parts = urlsplit(url)
    strange = "/" in parts.path[1:] or "\x00" in unquote(parts.path) or parts.query or parts.fragment
    return [Flaw("endpoint_url", f"must be {ENDPOINT}")] if strange else []


KIND = Kind(
    "rabbitmq",
    "RabbitMQ",
    ("amqp", "amqps"),
    ENDPOINT,
    reader(RabbitmqOptions),
    RabbitmqOptions.model_json_schema(),
    sources={**SOURCES, "messages": Source("number"), "consumers": Source("number")},
    flaws=_flaws,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Sign in to a target once and ask."""
    return await talking(target, tools, _ask)


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    options: RabbitmqOptions = talk.target.options
    parts = urlsplit(talk.target.endpoint_url)
    secure = parts.scheme == "amqps"
    tls = options.context(tools) if secure else None
    way = await dial(talk, tools, default_port=SECURE_PORT if secure else PORT)
    async with (
        carried(talk, way, protocol="AMQP", words=_words, tls=tls, server_name=options.server_name) as line,
        _client(line, unquote(parts.path[1:]) or "/", options) as client,
    ):
        async with line.phase("signing in"):
            await client.connect()
        async with line.phase("asking", "first_byte_ms"):
            opened = await client.channel(publisher_confirms=False)
            found = await opened.queue_declare(options.queue, passive=True) if options.queue else None
    values = {} if found is None else {"messages": found.message_count or 0, "consumers": found.consumer_count or 0}
    return talk.healthy(facts=Facts(values=values | line.shown(tools.clock())), details=values)


class _OverLine(connection.TransportFactory):
    def __init__(self, line: Line) -> None:
        self._line = line

    async def create(self, url: Any, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # noqa: ANN401, ARG002  # aiormq's
        return await asyncio.open_connection(sock=self._line.take())


@asynccontextmanager
async def _client(line: Line, vhost: str, options: RabbitmqOptions) -> AsyncIterator[aiormq.Connection]:
    """Give aiormq's connection over a line, and leave nothing of it behind."""
    user, password = quote(options.username, safe=""), quote(options.password.get_secret_value(), safe="")
    # "service" is never looked up: there is a line
    url = f"amqp://{user}:{password}@service:{PORT}/{'' if vhost == '/' else quote(vhost, safe='')}?heartbeat=0&name=sla-monitor"
    for name in ("aiormq.connection", "aiormq.channel"):
        logging.getLogger(name).addFilter(_not_probing)
    probing = _PROBING.set(True)
    client = aiormq.Connection(url, transport_factory=_OverLine(line))
    try:
        yield client
    finally:
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await asyncio.wait_for(client.close(), LAST_WORDS_S)
        _PROBING.reset(probing)


_PROBING: ContextVar[bool] = ContextVar("probing", default=False)


def _not_probing(_record: logging.LogRecord) -> bool:
    """Keep what aiormq says of watched brokers out of the log: it is in the checks' results. The product's own broker stays heard."""
    return not _PROBING.get()


def _words(error: Exception) -> str | None:
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return "refused: wrong user name or password"
    if isinstance(error, exceptions.InvalidFrameError) and "Connection.Close" in str(error):
        return "refused: no such virtual host, or no access to it"  # aiormq did not expect to be sent away when it opened it
    code = _CODES_OF.get(type(error)) or (error.args[0] if error.args else None)
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed) and code in REPLIES:
        return f"refused: {REPLIES[code]} ({code})"
    return None
