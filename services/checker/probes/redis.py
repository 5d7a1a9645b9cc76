"""Redis and Valkey checks: sign in, PING, and read one key if there is something to look at.

A refusal is told by its code, the first word of the server's answer (Redis protocol specification, "Simple errors"), never by its text.
"""

import asyncio
import re
from urllib.parse import urlsplit

import redis.asyncio
from pydantic import Field, SecretStr
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.checker.domain.kinds import Flaw, Kind
from services.checker.domain.target import Facts, Measurement, Target
from services.checker.probes import line as carrying
from services.checker.probes.dial import dial
from services.checker.probes.line import Line, carried
from services.checker.probes.options import reader
from services.checker.probes.secure import TlsOptions
from services.checker.probes.sql import MAX_VALUE, SOURCES, as_text, values_of
from services.checker.probes.talk import Talk, talking
from services.checker.probes.tools import Tools

PORT = 6379
ENDPOINT = "redis://host, rediss://host:port or redis://host:port/number"
CODES = {
    "WRONGPASS": "wrong user name or password",
    "NOAUTH": "a password is required",
    "NOPERM": "no permission",
    "LOADING": "still loading its data",
    "BUSY": "busy with a script",
    "MASTERDOWN": "its primary is down",
    "READONLY": "read-only replica",
    "MOVED": "the key is another node's",
    "ASK": "the key is another node's",
    "CLUSTERDOWN": "the cluster is down",
    "MISCONF": "it cannot save its data",
    "OOM": "out of memory",
    "DENIED": "protected mode",
    "WRONGTYPE": "the key holds no text",
}
"""What the codes mean."""
TEXTS = {"max number of clients reached": "too many clients", "DB index is out of range": "no such database"}
"""Errors that share the code ERR."""


class RedisOptions(TlsOptions):
    """How to sign in to Redis, and what to look at."""

    username: str = Field(default="", max_length=200)
    """Who signs in; empty: the default user."""
    password: SecretStr = SecretStr("")
    """The password; empty: no sign-in."""
    key: str = Field(default="", max_length=500)
    """A key to read after PING; assertions see its value."""


def _flaws(url: str, _options: object) -> list[Flaw]:
    parts = urlsplit(url)
    strange = not re.fullmatch(r"(/[0-9]{0,9})?", parts.path) or parts.query or parts.fragment
    return [Flaw("endpoint_url", f"must be {ENDPOINT}")] if strange else []


KIND = Kind(
    "redis",
    "Redis and Valkey",
    ("redis", "rediss"),
    ENDPOINT,
    reader(RedisOptions),
    RedisOptions.model_json_schema(),
    sources={**carrying.SOURCES, **SOURCES},
    flaws=_flaws,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Sign in to a target once and ask."""
    return await talking(target, tools, _ask)


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    options: RedisOptions = talk.target.options
    parts = urlsplit(talk.target.endpoint_url)
    tls = options.context(tools) if parts.scheme == "rediss" else None
    way = await dial(talk, tools, default_port=PORT)
    async with carried(talk, way, protocol="Redis", words=_words, tls=tls, server_name=options.server_name) as line:
        client = _client(line, int(parts.path.strip("/") or 0), options)
        try:
            async with line.phase("signing in"):
                await client.connect()  # type: ignore[no-untyped-call]  # redis-py types some of its functions
            async with line.phase("asking", "first_byte_ms"):
                value = await _exchange(client, options.key)
        finally:
            await client.disconnect(nowait=True)
    return talk.healthy(facts=Facts(values=values_of(as_text(value)) | line.shown(tools.clock())))


async def _exchange(client: "_Client", key: str) -> object:
    await client.send_command("PING", check_health=False)
    if await client.read_response() != b"PONG":
        message = "no PONG"
        raise ValueError(message)
    if not key:
        return None
    # Only as much of it as assertions see; what is not there is empty text, as in GETRANGE.
    await client.send_command("GETRANGE", key, 0, MAX_VALUE - 1, check_health=False)
    value: object = await client.read_response()
    return value


class _Client(redis.asyncio.Connection):
    """redis-py's connection over a line."""

    line: Line

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(sock=self.line.take())


def _client(line: Line, number: int, options: RedisOptions) -> _Client:
    password = options.password.get_secret_value()
    client = _Client(
        host="service",  # never looked up: there is a line
        port=PORT,
        db=number,
        username=options.username or None,
        password=password or None,
        protocol=2,
        driver_info=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
    )
    client.line = line
    return client


def _words(error: Exception) -> str | None:
    if not isinstance(error, exceptions.RedisError):
        return None
    text = str(error)
    if text in TEXTS:
        return f"refused: {TEXTS[text]}"
    if error.status_code == "ERR" and isinstance(error, exceptions.AuthenticationError):
        return f"refused: {CODES['WRONGPASS']}"
    if error.status_code is None and not isinstance(error, exceptions.ResponseError):
        return None  # the library's own
    word = re.match(r"[A-Z]{2,20}\b", error.status_code or text)
    code = word.group() if word else "ERR"
    return f"refused: {CODES.get(code, code)}"
