"""The demo's services: each listens on a port of its own, so that "refuses connections" is real."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

HTTP_IDS = ("id-recognition", "face-liveness", "id-liveness", "face-compare", "curp-verifier")
"""The APIs, in the order of their ports."""
TCP_ID = "tcp-echo"
"""The plain TCP port; it sends back what it gets."""
IDS = (*HTTP_IDS, TCP_ID)

SLOW_S = 1.0
REQUEST_LIMIT = 16_384


class Mode(StrEnum):
    """How a target answers. `slow` takes a second; `hang` never answers; `refuse` has nobody listening."""

    OK = "ok"
    FAIL = "fail"
    SLOW = "slow"
    HANG = "hang"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Request:
    """The first line of a request: all that is looked at."""

    method: str
    path: str


class BadRequest(Exception):  # noqa: N818  # named after the answer that it leads to
    """What came is not HTTP."""


def port_of(target: str, control_port: int) -> int:
    """Return where a target listens: the ports after the control port, in the order of `IDS`."""
    return control_port + 1 + IDS.index(target)


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read a request without a body; raises BadRequest."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ", 2)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, UnicodeDecodeError, ValueError, ConnectionError) as error:
        raise BadRequest from error
    return Request(method, path)


def response(status: int, body: object) -> bytes:
    """Return a whole HTTP answer with JSON, after which the connection closes."""
    reason = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 422: "Unprocessable Content"}.get(status, "Error")
    content = json.dumps(body, ensure_ascii=False).encode()
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + content


class Target:
    """One service: a listener that can be switched. Connections that are open follow the new mode at once when it is `refuse`."""

    def __init__(self, target: str, host: str, port: int) -> None:
        """Make it without listening yet."""
        self.id = target
        self.mode = Mode.OK
        self.answered = 0
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def switch(self, mode: Mode) -> None:
        """Answer like this from now on."""
        self.mode = mode
        if mode is Mode.REFUSE:
            await self.close()
        elif self._server is None:
            handler = self._echo if self.id == TCP_ID else self._answer
            self._server = await asyncio.start_server(handler, self._host, self._port, limit=REQUEST_LIMIT, backlog=1024)

    async def close(self) -> None:
        """Stop listening and reset what is connected."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in list(self._open):
            writer.transport.abort()
        if server is not None:
            await server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._connected(writer):
            await read_request(reader)
            if self.mode is Mode.HANG:
                await reader.read()  # until the other side gives up
                return
            if self.mode is Mode.SLOW:
                await asyncio.sleep(SLOW_S)
            status = 500 if self.mode is Mode.FAIL else 200
            writer.write(response(status, {"service": self.id, "status": "failing" if status == 500 else "ok"}))  # noqa: PLR2004  # as set above
            await writer.drain()
            self.answered += 1

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._connected(writer):
            if self.mode is Mode.FAIL:
                writer.transport.abort()
                return
            while data := await reader.read(4096):
                if self.mode is Mode.HANG:
                    continue
                if self.mode is Mode.SLOW:
                    await asyncio.sleep(SLOW_S)
                writer.write(data)
                await writer.drain()
                self.answered += 1

    @asynccontextmanager
    async def _connected(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        self._open.add(writer)
        try:
            yield
        except (BadRequest, ConnectionError):
            pass  # the visitor's affair: there is nobody left to tell
        finally:
            self._open.discard(writer)
            writer.close()
