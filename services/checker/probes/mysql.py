"""MySQL and MariaDB checks: sign in, and run one query that reads.

A refusal is told by its error's name (MySQL's reference, "Server Error Message Reference"), never by the server's text.
"""

import asyncio
import struct
from time import perf_counter
from typing import Any

import aiomysql
from pymysql.constants import CLIENT, COMMAND, ER

from services.checker.domain.target import Measurement
from services.checker.probes.dial import Dialled
from services.checker.probes.line import Line, carried
from services.checker.probes.sql import SqlOptions, database_of, judged, kind_of, prober
from services.checker.probes.talk import Talk
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType

PORT = 3306
ENDPOINT = "mysql://host, mysql://host/database or mysql://host:port/database"
ERRORS = {number: name.removesuffix("_ERROR").replace("_", " ").lower() for name, number in vars(ER).items() if isinstance(number, int)} | {
    1792: "a read-only transaction",
    1969: "longer than it may take",
    3024: "longer than it may take",
}
"""The errors' names by their numbers; PyMySQL lacks some."""

CLIENTS_OWN = range(2000, 3000)
"""Errors that no server gave."""

MAX_GREETING = 1_024
LARGEST_PACKET = 16_777_216
UTF8MB4 = 45

KIND = kind_of("mysql", "MySQL and MariaDB", "mysql", ENDPOINT, needs_database=False)


async def _over(talk: Talk, tools: Tools, way: Dialled, options: SqlOptions) -> Measurement:
    greeting, secure = await _greet(talk, way, options)
    tls = options.context(tools) if secure else None
    async with carried(talk, way, protocol="MySQL", words=_words, tls=tls, server_name=options.server_name, heard=greeting) as line:
        client = _Client(line, talk.target.endpoint_url, options)
        try:
            async with line.phase("signing in"):
                await client.sign_in()
            async with line.phase("asking", "first_byte_ms"):
                value, query_ms = await client.first_value(options.query, talk.target.timeout_ms)
        finally:
            client.close()
    return judged(line, options, value, query_ms=query_ms, now=tools.clock())


probe = prober(_over, port=PORT)
"""Signs in to a target once and asks."""


async def _greet(talk: Talk, way: Dialled, options: SqlOptions) -> tuple[bytes, bool]:
    """Hear the server's greeting and ask for TLS if that is wanted; return the greeting, and whether TLS is to be made now.

    MySQL's internals, "Protocol::HandshakeV10" and "Protocol::SSLRequest". Raises `Ended`.
    """
    async with talk.phase("waiting for the greeting"):
        greeting = await _packet(way)
    able = _capabilities(greeting) & CLIENT.SSL
    if options.tls in {"require", "verify"} and not able and greeting[4:5] == b"\x0a":
        talk.doing = "securing the connection"
        raise talk.failure(ErrorType.TLS_ERROR, "the server offers no TLS")
    if options.tls == "off" or not able:
        return greeting, False
    async with talk.phase("securing the connection"):
        # The same flags as in the sign-in that follows: MariaDB goes by the first.
        flags = CLIENT.CAPABILITIES | CLIENT.SSL | (CLIENT.CONNECT_WITH_DB if database_of(talk.target.endpoint_url) else 0)
        request = struct.pack("<iIB23s", flags, LARGEST_PACKET, UTF8MB4, b"")
        await asyncio.get_running_loop().sock_sendall(way.connection, struct.pack("<I", len(request) | 1 << 24) + request)
    return greeting, True


async def _packet(way: Dialled) -> bytes:
    """Read one packet and not a byte more. What is longer than any greeting is cut: the library sees that it is none."""
    packet = await _exactly(way, 4)
    return packet + await _exactly(way, min(int.from_bytes(packet[:3], "little"), MAX_GREETING))


async def _exactly(way: Dialled, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = await asyncio.get_running_loop().sock_recv(way.connection, length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _capabilities(packet: bytes) -> int:
    """Return the flags of a greeting of version 10; of anything else, such as a refusal, none."""
    _version, ended, rest = packet[5:].partition(b"\0")
    if packet[4:5] != b"\x0a" or not ended or len(rest) < 15:  # noqa: PLR2004  # thread, salt, filler, flags
        return 0
    return int.from_bytes(rest[13:15], "little")


class _Client(aiomysql.Connection):  # type: ignore[misc]  # aiomysql says nothing of its types
    """aiomysql's connection over a line, with TLS below it instead of in it."""

    _reader: asyncio.StreamReader | None
    _writer: asyncio.StreamWriter | None

    def __init__(self, line: Line, url: str, options: SqlOptions) -> None:
        super().__init__(
            user=options.username or "root",
            password=options.password.get_secret_value(),
            db=database_of(url) or None,
            charset="utf8mb4",
            client_flag=CLIENT.SSL if line.secure else 0,
            conv={},
            autocommit=None,
        )
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        self._connect_attrs = {"_client_name": "sla-monitor"}
        self._line = line

    async def sign_in(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(sock=self._line.take())
        self._next_seq_id = 0
        await self._get_server_information()
        if self._line.secure:
            self._secure = True
            self._next_seq_id += 1  # the request for TLS was a packet too
        await self._request_authentication()

    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> None:  # noqa: ANN401  # aiomysql's
        if plugin_name in {b"mysql_clear_password", b"mysql_old_password"} and not self._line.secure:
            refused = self._line.refused("asked for the password in clear")
            raise refused
        await super()._process_auth(plugin_name, auth_packet)

    async def first_value(self, query: str, timeout_ms: int) -> tuple[object, float]:
        """Return the first value and what the query took (ms).

        A server does not notice that nobody waits for an answer any more: it is told when to give up.
        """
        if "MariaDB" in self.server_version:
            await self.query(f"set session max_statement_time = {timeout_ms / 1000}")
        elif self.server_version[:1] in "89":
            await self.query(f"set session max_execution_time = {timeout_ms}")
        await self.query("start transaction read only")
        began = perf_counter()
        cursor = await self.cursor(aiomysql.SSCursor)
        await cursor.execute(query)
        row = await cursor.fetchone()  # further rows are left where they are
        took = round((perf_counter() - began) * 1000, 3)
        return (row[0] if row else None), took

    def close(self) -> None:
        """Say good-bye, wherever the answer stands, and close."""
        if self._writer is not None and not self._writer.is_closing():
            self._next_seq_id = 0
            self.write_packet(bytes([COMMAND.COM_QUIT]))
            self._writer.close()
        self._reader = self._writer = None


def _words(error: Exception) -> str | None:
    number = error.args[0] if isinstance(error, aiomysql.MySQLError) and error.args else None
    if not isinstance(number, int) or number < ER.ERROR_FIRST or number in CLIENTS_OWN:
        return None
    return f"refused: {ERRORS.get(number, 'error')} ({number})"
