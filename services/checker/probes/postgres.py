"""PostgreSQL checks: sign in, and run one query that reads.

A refusal is told by its SQLSTATE's name (PostgreSQL's documentation, appendix A), never by the server's text.
"""

import asyncio
import re
import struct
from collections.abc import Callable
from time import perf_counter
from typing import Any, cast

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from services.checker.domain.target import Measurement
from services.checker.probes.dial import Dialled
from services.checker.probes.line import Line, carried
from services.checker.probes.sql import SqlOptions, database_of, judged, kind_of, prober
from services.checker.probes.talk import Talk
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType

PORT = 5432
ENDPOINT = "postgresql://host/database or postgresql://host:port/database"
NEVER_S = 3600.0
"""A limit that is not reached: the check's own comes before."""
SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)
"""PostgreSQL's documentation, "SSL Session Encryption": answered with one letter, S or N."""

_STATE = re.compile(r"[0-9A-Z]{5}")
"""A SQLSTATE; a server can send megabytes of anything in its place."""
_WORD_BEGINS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

KIND = kind_of("postgres", "PostgreSQL", "postgresql", ENDPOINT, needs_database=True)


async def _over(talk: Talk, tools: Tools, way: Dialled, options: SqlOptions) -> Measurement:
    tls = options.context(tools) if await _agree_on_tls(talk, way, options) else None
    async with carried(talk, way, protocol="PostgreSQL", words=_words, tls=tls, server_name=options.server_name) as line:
        async with line.phase("signing in"):
            connection = await _sign_in(line, talk.target.endpoint_url, options)
        try:
            async with line.phase("asking", "first_byte_ms"):
                value, query_ms = await _query(connection, options.query, talk.target.timeout_ms)
        finally:
            connection.terminate()
    return judged(line, options, value, query_ms=query_ms, now=tools.clock())


probe = prober(_over, port=PORT)
"""Signs in to a target once and asks."""


async def _agree_on_tls(talk: Talk, way: Dialled, options: SqlOptions) -> bool:
    """Ask the server for TLS if that is wanted; say whether it is to be made. Raises `Ended`."""
    if options.tls == "off":
        return False
    loop = asyncio.get_running_loop()
    async with talk.phase("securing the connection"):
        await loop.sock_sendall(way.connection, SSL_REQUEST)
        # One letter and no more: what comes with it unasked was not said by whom TLS will prove (CVE-2021-23222).
        answer = await loop.sock_recv(way.connection, 2)
        if not answer:
            raise EOFError
    if answer not in {b"S", b"N"}:
        raise talk.failure(ErrorType.CONNECTION_ERROR, "the answer is not PostgreSQL")
    if answer == b"N" and options.tls != "prefer":
        raise talk.failure(ErrorType.TLS_ERROR, "the server offers no TLS")
    return answer == b"S"


class _OneLine:
    """The running loop to asyncpg, but for connections: the one that was dialled, and no other."""

    def __init__(self, line: Line) -> None:
        self._line: Line | None = line
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the loop has
        return getattr(self._loop, name)

    async def create_connection(self, protocol: Callable[[], asyncio.Protocol], *_address: object) -> Any:  # noqa: ANN401  # the loop's
        line, self._line = self._line, None
        if line is None:
            message = "a check has one connection"  # asyncpg would open others, to call off a query
            raise ConnectionRefusedError(message)
        return await self._loop.create_connection(protocol, sock=line.take())


async def _sign_in(line: Line, url: str, options: SqlOptions) -> "asyncpg.Connection[asyncpg.Record]":
    """Return a session. Everything is given, so that nothing is taken from the checker's own environment or files."""
    return await asyncpg.connect(
        host="service",  # never looked up: the loop has a connection
        port=PORT,
        user=options.username or "postgres",
        password=options.password.get_secret_value(),
        database=database_of(url),
        ssl=False,
        direct_tls=False,
        service="",
        passfile="",
        target_session_attrs=SessionAttribute.any,
        krbsrvname="postgres",
        gsslib="gssapi",
        server_settings={"application_name": "sla-monitor"},
        statement_cache_size=0,
        timeout=NEVER_S,
        loop=cast("asyncio.AbstractEventLoop", _OneLine(line)),  # it has all that asyncpg asks of a loop
    )


async def _query(connection: "asyncpg.Connection[asyncpg.Record]", query: str, timeout_ms: int) -> tuple[object, float]:
    """Return the first value and what the query took (ms). The transaction ends with the connection, uncommitted.

    A server does not notice that nobody waits for an answer any more: it is told when to give up.
    """
    limited = f"begin read only; set local statement_timeout = {timeout_ms:d}"  # a number of our own, where none may be a parameter
    await connection.execute(limited)
    began = perf_counter()
    row = await connection.fetchrow(query)
    took = round((perf_counter() - began) * 1000, 3)
    return (row[0] if row else None), took


def _words(error: Exception) -> str | None:
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and state and not isinstance(error, asyncpg.PostgresConnectionError):
        if not _STATE.fullmatch(state):
            return "refused, without a valid SQLSTATE"
        name = type(error).__name__.removeprefix("Postgres").removesuffix("Error")
        return f"refused: {_WORD_BEGINS.sub(' ', name).lower()} ({state})"
    return None
