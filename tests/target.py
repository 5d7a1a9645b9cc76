"""A target to check: an HTTP server in the test's own loop whose answers are switched, and which remembers what it answered when."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Target:
    """Answers `GET /<id>`: 200, or 500 for ids that are failing."""

    port: int = 0
    failing: set[str] = field(default_factory=set)
    answers: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))

    def url(self, service_id: str) -> str:
        """Return the address to check for a service."""
        return f"http://127.0.0.1:{self.port}/{service_id}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            service_id = request.split(b" ", 2)[1].decode().lstrip("/")
            status = 500 if service_id in self.failing else 200
            writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".encode())
            await writer.drain()
            self.answers[service_id].append((time.time(), status))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a killed checker leaves half a request: nothing to answer
        finally:
            writer.close()


@asynccontextmanager
async def running_target() -> AsyncIterator[Target]:
    """Serve on a free loopback port."""
    target = Target()
    server = await asyncio.start_server(target.answer, "127.0.0.1", 0, backlog=1024)
    target.port = server.sockets[0].getsockname()[1]
    async with server:
        yield target
