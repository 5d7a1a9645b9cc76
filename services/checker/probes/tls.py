"""TLS checks: a handshake on any port, at once or after a STARTTLS, and what the certificate says."""

import asyncio
import contextlib
import ssl
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from services.checker.domain.kinds import Kind, Source
from services.checker.domain.target import Facts, Measurement, Target
from services.checker.probes import certificate
from services.checker.probes.dial import dial
from services.checker.probes.options import reader
from services.checker.probes.secure import TlsOptions
from services.checker.probes.talk import Talk, talking, timed
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType

if TYPE_CHECKING:
    import socket
    from datetime import datetime

MAX_HEARD_BYTES = 16_384
"""What a server may say before TLS begins."""
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""PostgreSQL's SSLRequest: length 8 and the code 80877103 (Frontend/Backend Protocol, Message Formats)."""


class TlsCheckOptions(TlsOptions):
    """How TLS is begun and what the certificate must stand.

    How many days it must still be good for is an assertion, as in {"source": "certificate", "property": "days_left",
    "comparison": "at_least", "target": 14, "severity": "degraded"}.
    """

    starttls: Literal["smtp", "imap", "postgres"] | None = None
    """The protocol in which TLS is asked for; null: the connection begins with it."""


KIND = Kind(
    "tls",
    "TLS",
    ("tls",),
    "tls://host:port",
    reader(TlsCheckOptions),
    TlsCheckOptions.model_json_schema(),
    needs_port=True,
    sources={
        **timed("name_lookup", "connect", "tls"),
        "certificate": certificate.SOURCE,
        "tls": Source("text", ("version", "cipher")),
    },
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Shake hands with a target once."""
    return await talking(target, tools, _ask)


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    options: TlsCheckOptions = talk.target.options
    way = await dial(talk, tools)
    with closing(way.connection) as connection:
        if options.starttls is not None:
            async with talk.phase("asking for TLS"):
                await _STARTTLS[options.starttls](_Heard(talk, connection, options.starttls))
        async with talk.phase("securing the connection", "tls_ms"):
            name = (options.server_name or way.host).rstrip(".")
            secured = await handshake(connection, options.context(tools), name)
        values = _values(secured, tools.clock())
        details = {"certificate_days": values["certificate"]["days_left"]} if "certificate" in values else {}
        measurement = talk.healthy(facts=Facts(values=values), details=details)
        _say_goodbye(secured, connection)
        return measurement


@dataclass(frozen=True, slots=True)
class Secured:
    """TLS over a connection, and the bytes that are still to be sent for it."""

    tls: ssl.SSLObject
    outgoing: ssl.MemoryBIO


async def handshake(connection: "socket.socket", context: ssl.SSLContext, name: str) -> Secured:
    """Secure an open connection. Raises `ssl.SSLError` and `OSError`."""
    loop = asyncio.get_running_loop()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        else:
            done = True
        if outgoing.pending:
            await loop.sock_sendall(connection, outgoing.read())
        if done:
            return Secured(tls, outgoing)
        came = await loop.sock_recv(connection, MAX_HEARD_BYTES)
        if not came:
            raise EOFError
        incoming.write(came)


def _say_goodbye(secured: Secured, connection: "socket.socket") -> None:
    """Send a close_notify, so that the server logs no error; whether it arrives changes nothing."""
    with contextlib.suppress(OSError):
        # Would wait for the server's; ours is among the outgoing bytes by then.
        with contextlib.suppress(ssl.SSLWantReadError):
            secured.tls.unwrap()
        connection.send(secured.outgoing.read())


def _values(secured: Secured, now: "datetime") -> dict[str, Any]:
    """Return what the handshake found."""
    cipher = secured.tls.cipher()
    return {
        "tls": {"version": secured.tls.version(), "cipher": cipher[0] if cipher else ""},
        **certificate.shown(secured.tls, now),
    }


@dataclass(slots=True)
class _Heard:
    """A conversation in clear, before TLS."""

    talk: Talk
    connection: "socket.socket"
    protocol: str
    heard: bytearray = field(default_factory=bytearray)
    read: int = 0

    async def say(self, words: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.connection, words)

    async def more(self) -> None:
        room = MAX_HEARD_BYTES - len(self.heard)
        if not room:
            raise self.talk.failure(ErrorType.TLS_ERROR, "the answer is too long")
        came = await asyncio.get_running_loop().sock_recv(self.connection, room)
        if not came:
            raise EOFError
        self.heard += came

    async def line(self) -> bytes:
        while (end := self.heard.find(b"\n", self.read)) < 0:
            await self.more()
        line = bytes(self.heard[self.read : end])
        self.read = end + 1
        return line.rstrip(b"\r")

    def end(self) -> None:
        """Make sure that nothing was said in clear that could be taken for said within TLS (CVE-2011-0411)."""
        if len(self.heard) > self.read:
            raise self.talk.failure(ErrorType.TLS_ERROR, "the server goes on in clear after agreeing to TLS")

    def refused(self) -> Exception:
        return self.talk.failure(ErrorType.TLS_ERROR, "the server refuses TLS")

    def strange(self) -> Exception:
        return self.talk.failure(ErrorType.TLS_ERROR, f"the answer is not {_PROTOCOLS[self.protocol]}")


async def _smtp(heard: _Heard) -> None:
    """RFC 3207."""
    await _smtp_reply(heard, b"220")
    await heard.say(b"EHLO sla-monitor.invalid\r\n")
    await _smtp_reply(heard, b"250")
    await heard.say(b"STARTTLS\r\n")
    await _smtp_reply(heard, b"220")
    heard.end()


async def _smtp_reply(heard: _Heard, expected: bytes) -> None:
    """Read a reply of any number of lines: "250-first", "250 last" (RFC 5321, 4.2.1)."""
    while True:
        line = await heard.line()
        if not line[:3].isdigit():
            raise heard.strange()
        if line[:3] != expected:
            raise heard.refused()
        if line[3:4] != b"-":
            return


async def _imap(heard: _Heard) -> None:
    """RFC 9051, 6.2.1."""
    greeting = await heard.line()
    if not greeting.startswith(b"* "):
        raise heard.strange()
    await heard.say(b"a1 STARTTLS\r\n")
    while (line := await heard.line()).startswith(b"* "):
        pass
    if not line.startswith(b"a1 "):
        raise heard.strange()
    if not line.upper().startswith(b"A1 OK"):
        raise heard.refused()
    heard.end()


async def _postgres(heard: _Heard) -> None:
    """Answer one byte: S for yes, N for no (Frontend/Backend Protocol, SSL Session Encryption)."""
    await heard.say(SSL_REQUEST)
    await heard.more()
    heard.read = 1
    if heard.heard[:1] == b"N":
        raise heard.refused()
    if heard.heard[:1] != b"S":
        raise heard.strange()
    heard.end()


_PROTOCOLS = {"smtp": "SMTP", "imap": "IMAP", "postgres": "PostgreSQL"}
_STARTTLS = {"smtp": _smtp, "imap": _imap, "postgres": _postgres}
