"""A connection that `dial` made, handed to a library that would rather dial itself: the library gets one end of a pair of local sockets.

What it says and hears is carried to and from the service here. So every library talks to the vetted address only, TLS is the same for
all, an answer has a limit, the reason of a broken connection is known whatever the library makes of it, and nothing stays open behind
one that does not clean up after itself.

Errors, for all kinds that sign in and ask: a service that is not there, that refuses a sign-in, a query or a command, or whose answer
is not its protocol's, is a `connection_error`; an answer that came and is not the expected one is an `assertion_failed`. A server's own
text is never told on: it may hold what should stay secret, and figures that change. Its code is, in words.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.checker.probes import certificate
from services.checker.probes.dial import Dialled
from services.checker.probes.talk import Ended, Taken, Talk, timed
from services.checker.probes.trouble import OS_WORDS
from shared.contracts.codes import ErrorType

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""What a service may say in one check, over and above its TLS."""

LAST_WORDS_S = 0.25
"""What a good-bye may take. The check's verdict is there already."""

_PIECE = 65_536

SOURCES = {**timed("name_lookup", "connect", "tls", "first_byte"), "certificate": certificate.SOURCE}
"""What assertions may look at in every kind whose connection is carried."""

Words = Callable[[Exception], str | None]
"""What a library's error says of the service, such as "refused: invalid password" (the phase is added), or None if no server said so."""


def _no_words(_error: Exception) -> str | None:
    return None


@dataclass(slots=True)
class Line:
    """A connection being carried. `end` is the library's side; `broken` says why the service's side is over, once it is.

    `tls` is what it is secured with, by the line or by the library above it.
    """

    talk: Talk
    protocol: str
    tls: ssl.SSLObject | None
    end: socket.socket = field(repr=False)
    words: Words = _no_words
    broken: str | None = None
    taken: bool = False

    @property
    def secure(self) -> bool:
        """Whether TLS was made."""
        return self.tls is not None

    def shown(self, now: datetime) -> dict[str, Any]:
        """Return what assertions see of the service's certificate."""
        return certificate.shown(self.tls, now)

    def take(self) -> socket.socket:
        """Return the library's side, for a transport to own and close."""
        self.taken = True
        return self.end

    @asynccontextmanager
    async def phase(self, doing: str, taken: Taken | None = None) -> AsyncIterator[None]:
        """Have the library do something, and nothing else: whatever it raises is taken for the service's doing. Raises `Ended`."""
        async with self.talk.phase(doing, taken):
            try:
                yield
            except Ended:
                raise
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                closed = self._lost("connection closed")
                raise closed from None  # aiormq says it that way
            except Exception as error:
                # Libraries raise anything when a server talks nonsense, and turn a cancellation into errors of their own.
                if asyncio.get_running_loop().time() >= self.talk.deadline:
                    raise TimeoutError from error
                raise self._meaning(error) from error

    def refused(self, words: str) -> Ended:
        """Return the end of a check whose service answered with a refusal."""
        return self.talk.failure(ErrorType.CONNECTION_ERROR, words)

    def _meaning(self, error: Exception) -> Ended:
        words = self.words(error)
        if words is not None:
            return self.refused(words)
        if isinstance(error, ssl.SSLError):
            return self.talk.failure_of(error)
        return self._lost(f"the answer is not {self.protocol}")

    def _lost(self, otherwise: str) -> Ended:
        return self.refused(self.broken or otherwise)


@asynccontextmanager
async def carried(
    talk: Talk,
    way: Dialled,
    *,
    protocol: str,
    words: Words = _no_words,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    heard: bytes = b"",
) -> AsyncIterator[Line]:
    """Carry a connection until this is left; `way.connection` is closed then. With `tls` it is secured first, in a phase of its own.

    `server_name` is what the certificate must be for, in place of the target's host; `heard` is what the service has said already and
    the library has still to hear. Raises `Ended`.
    """
    reader, writer = await _open(talk, way, tls, server_name)
    near, inner = socket.socketpair()
    near.setblocking(False)
    inner.setblocking(False)
    line = Line(talk, protocol, writer.get_extra_info("ssl_object"), near, words)
    inward = asyncio.create_task(_inward(line, reader, inner, heard))
    outward = asyncio.create_task(_outward(inner, writer))
    try:
        yield line
        # The library has closed its end, or is about to: its good-bye may still be on the way.
        await asyncio.wait([outward], timeout=LAST_WORDS_S)
    finally:
        for task in (inward, outward):
            task.cancel()
        await asyncio.gather(inward, outward, return_exceptions=True)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        inner.close()
        await _closed(line)


async def _closed(line: Line) -> None:
    """Close the library's side: let a transport do it that owns it, now that the other side is gone; TLS of its own takes some turns."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + LAST_WORDS_S
    while line.taken and line.end.fileno() >= 0 and loop.time() < give_up:  # noqa: ASYNC110  # a transport tells nobody that it has closed
        await asyncio.sleep(0.001)
    line.end.close()


async def _open(
    talk: Talk, way: Dialled, tls: ssl.SSLContext | None, server_name: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        if tls is None:
            return await asyncio.open_connection(sock=way.connection)
        async with talk.phase("securing the connection", "tls_ms"):
            return await asyncio.open_connection(sock=way.connection, ssl=tls, server_hostname=server_name or way.host)
    except BaseException:
        way.connection.close()
        raise


async def _inward(line: Line, reader: asyncio.StreamReader, inner: socket.socket, heard: bytes) -> None:
    """Carry what the service says, and note why it ends."""
    loop = asyncio.get_running_loop()
    left = MAX_ANSWER_BYTES
    data = heard
    with contextlib.suppress(ConnectionError):  # the library has closed its end
        while left >= 0:
            await loop.sock_sendall(inner, data)
            data = await _piece(line, reader)
            if not data:
                break
            left -= len(data)
        else:
            line.broken = f"answer longer than {MAX_ANSWER_BYTES // 1024 // 1024} MiB"
        inner.shutdown(socket.SHUT_WR)


async def _piece(line: Line, reader: asyncio.StreamReader) -> bytes:
    try:
        data = await reader.read(_PIECE)
    except OSError as error:
        line.broken = OS_WORDS.get(error.errno or 0, "connection reset")
        return b""
    if not data:
        line.broken = "connection closed"
    return data


async def _outward(inner: socket.socket, writer: asyncio.StreamWriter) -> None:
    """Carry what the library says; where the service hears no more, the other direction tells why."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(inner, _PIECE):
            writer.write(data)
            await writer.drain()
