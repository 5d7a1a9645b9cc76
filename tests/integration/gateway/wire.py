"""A TCP wire between the gateway and a server, that a test can cut and mend."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from yarl import URL


class Wire:
    """Passes bytes both ways until it is cut; while it is cut nobody gets through."""

    def __init__(self, url: str) -> None:
        self._target = URL(url)
        self._open: set[asyncio.StreamWriter] = set()
        self._passes = True
        self.swallows = False
        self.port = 0

    @property
    def url(self) -> str:
        """The server's URL by way of this wire."""
        return str(self._target.with_port(self.port))

    def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        self._passes = False
        for writer in list(self._open):
            writer.transport.abort()

    def mend(self) -> None:
        """Let connections through again."""
        self._passes = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._passes:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(self._target.host, self._target.port)
        both = {writer, there_writer}
        self._open |= both
        with suppress(OSError):
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        self._open -= both
        for one in both:
            one.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            if not self.swallows:
                sink.write(piece)
                await sink.drain()
        sink.close()


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """Lay a wire to a server."""
    laid = Wire(url)
    server = await asyncio.start_server(laid._accept, "127.0.0.1", 0)  # noqa: SLF001  # its own maker
    laid.port = server.sockets[0].getsockname()[1]
    try:
        yield laid
    finally:
        server.close()
        laid.cut()
