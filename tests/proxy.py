"""A TCP link that can be spoilt: passes, stalls (one way or both), refuses, or is reset. Some sixty lines in place of toxiproxy."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

_LINGER_0 = struct.pack("ii", 1, 0)
"""Closing sends RST instead of FIN."""


class Proxy:
    """One listening port in front of a server. What is stalled is kept and arrives after `resume`, as on a real network."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._requests, self._answers, self._accepting = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.accept()
        self.resume()

    def stall(self, *, answers_only: bool = False) -> None:
        """Let nothing through, or nothing of what the server says; links stay open."""
        self._answers.clear()
        if not answers_only:
            self._requests.clear()

    def resume(self) -> None:
        """Let everything through again, what was kept first."""
        self._requests.set()
        self._answers.set()

    def refuse(self) -> None:
        """Reset every new link at once."""
        self._accepting.clear()

    def accept(self) -> None:
        """Take new links again."""
        self._accepting.set()

    def reset(self) -> None:
        """Break all present links with RST."""
        for writer in self._writers:
            _break(writer)

    def url(self, url: str) -> str:
        """Return the URL of the same thing by way of this proxy."""
        parts = urlsplit(url)
        credentials = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{self.port}"))

    async def link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one link until either side ends it."""
        if not self._accepting.is_set():
            _break(writer)
            return
        self._writers.add(writer)
        far_reader, far_writer = await asyncio.open_connection(*self._upstream)
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, far_writer, self._requests))
                both.create_task(_carry(far_reader, writer, self._answers))
        except* OSError:
            pass  # one side broke: that is what this proxy is for
        finally:
            self._writers -= {writer, far_writer}
            writer.close()
            far_writer.close()


def _break(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        writer.transport.abort()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    while data := await source.read(65_536):
        await flowing.wait()
        target.write(data)
        await target.drain()
    raise ConnectionResetError


@asynccontextmanager
async def running_proxy(url: str) -> AsyncIterator[Proxy]:
    """Stand in front of the server that a URL names."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    links: set[asyncio.Task[None]] = set()

    def on_link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.link(reader, writer))
        links.add(task)
        task.add_done_callback(links.discard)

    server = await asyncio.start_server(on_link, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(links):
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)
