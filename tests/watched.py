"""Checking one service as the checker does, and services that misbehave in every way that a network allows."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Measurement, Target
from services.checker.probes import KINDS, PROBES
from services.checker.probes.tools import Tools
from tests import certificates
from tests.certificates import Certificate

ANYWHERE = HostRules()
NEVER_A_NAME = "a" * 64 + ".invalid"
"""A label of 64 characters is no name anywhere: no server is asked."""

NOBODYS = b"\x00\x00\x00\x00 nobody's protocol \xff\xfe\r\n" * 20
"""What is no protocol's."""

_LINGER_0 = struct.pack("ii", 1, 0)

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def target(kind: str, url: str, *, timeout_ms: int = 3000, **options: Any) -> Target:  # noqa: ANN401  # JSON
    """Return what a definition of the kind would make. Fails on a flaw."""
    read, flaws = KINDS[kind].read(options)
    own = KINDS[kind].flaws
    assert not flaws + (own(url, read) if own else [])
    return Target("s", kind, url, 60_000, timeout_ms, read, 0, 1)


async def check(kind: str, url: str, *, timeout_ms: int = 3000, rules: HostRules = ANYWHERE, **options: Any) -> Measurement:  # noqa: ANN401  # JSON
    """Check once. The tests' authority is trusted as the system's are; no engine, for kinds that are not HTTP."""
    tools = Tools(None, rules, str(certificates.authority().file))  # type: ignore[arg-type]  # whoever takes it fails at once
    return await PROBES[kind](target(kind, url, timeout_ms=timeout_ms, **options), tools)


@asynccontextmanager
async def hanging(one: Callable[[], Coroutine[Any, Any, Measurement]]) -> AsyncIterator[None]:
    """Have a hundred checks that hang, all the while. Fails if one of them is done."""
    held = [asyncio.create_task(one()) for _ in range(100)]
    try:
        yield
        assert not any(task.done() for task in held)
    finally:
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Take everything and say nothing."""
    while await reader.read(65_536):
        pass


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Break the connection with RST, after the first word if the client speaks first."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.read(1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
    writer.transport.abort()


async def closing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close without a word."""
    writer.write_eof()


def babbling(words: bytes) -> Answer:
    """Return a service that says these words and no others."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        await silent(reader, writer)

    return answer


def saying(first: bytes, then: bytes, *, pause_s: float = 0.0, limit: int = 1 << 40) -> Answer:
    """Return a service that says `first` and then `then`, over and over."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        sent = 0
        while sent < limit:
            writer.write(then)
            await writer.drain()
            sent += len(then)
            await asyncio.sleep(pause_s)  # how slow it drips is what it is

    return answer


@asynccontextmanager
async def service(answer: Answer) -> AsyncIterator[int]:
    """Serve on a free port of 127.0.0.1 until this is left; give the port."""
    links: set[asyncio.Task[None]] = set()

    async def on_link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        links.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await answer(reader, writer)
                await reader.read()
        finally:
            links.discard(task)
            writer.close()

    server = await asyncio.start_server(on_link, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tuple(links):
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)


async def no_prelude(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Begin with TLS at once."""


@asynccontextmanager
async def fronted(port: int, certificate: Certificate, prelude: Answer = no_prelude) -> AsyncIterator[int]:
    """Stand in front of a server that speaks in clear, with TLS; `prelude` is what both say before it. Gives the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await prelude(reader, writer)
        raw = writer.transport
        try:
            await writer.start_tls(certificate.server_context())
        except OSError:
            raw.abort()  # a client that does not trust it
            raise
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, far_writer))
                both.create_task(_carry(far_reader, writer))
        except* OSError:
            pass  # either side left
        finally:
            far_writer.close()

    async with service(answer) as front:
        yield front


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
    raise ConnectionResetError


BAD_CERTIFICATES = {
    "expired": (certificates.expired, "localhost", "certificate has expired"),
    "of another name": (
        certificates.good,
        "elsewhere.test",
        "SSL: no alternative certificate subject name matches target hostname 'localhost'",
    ),
    "self-signed": (certificates.self_signed, "localhost", "self-signed certificate"),
}
"""How to make each, the name that it is for, and what is said of it."""


def bad(sort: str) -> tuple[Certificate, str]:
    """Return a certificate that `localhost` should not have, and what is said of it."""
    make, name, words = BAD_CERTIFICATES[sort]
    return make(name), words
