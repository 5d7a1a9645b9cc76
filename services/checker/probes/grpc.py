"""gRPC checks: what the service says of itself by the protocol of gRPC's health checking (grpc.health.v1).

gRPC's own core would dial, look names up, keep connections for others and obey proxies of the environment. It gets a local socket
that is carried to the service instead, over TLS that is made here.
"""

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import urlsplit

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import Field, SecretStr, field_validator

from services.checker.domain.kinds import Kind, Source
from services.checker.domain.target import Facts, Measurement, Target
from services.checker.probes.dial import dial
from services.checker.probes.line import SOURCES, Line, carried
from services.checker.probes.options import reader
from services.checker.probes.secure import TlsOptions
from services.checker.probes.talk import Talk, talking
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType

MAX_MESSAGE_BYTES = 65_536
SERVING = health_pb2.HealthCheckResponse.SERVING

MAY_BE_OURS = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED})
"""What gRPC's core says when a connection breaks, and a server may say too."""

_UCRED = struct.Struct("3i")
"""Process, user and group of a local socket's other end: unix(7), SO_PEERCRED."""


class GrpcOptions(TlsOptions):
    """Whose health to ask for, and how."""

    service: str = Field(default="", max_length=200)
    """The service's full name, as in `shop.Orders`; empty: the whole server."""
    metadata: dict[Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,100}$")], SecretStr] = Field(default={}, max_length=20)
    """What is sent along, such as `authorization`: printable ASCII."""

    @field_validator("metadata")
    @classmethod
    def _can_be_sent(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if any(name.startswith("grpc-") or name.endswith("-bin") for name in value):
            message = "must not begin with grpc- or end with -bin"
            raise ValueError(message)
        if not all(one.get_secret_value().isascii() and one.get_secret_value().isprintable() for one in value.values()):
            message = "must be printable ASCII"
            raise ValueError(message)
        return value


KIND = Kind(
    "grpc",
    "gRPC health",
    ("grpc", "grpcs"),
    "grpc://host:port or grpcs://host:port",
    reader(GrpcOptions),
    GrpcOptions.model_json_schema(),
    needs_port=True,
    sources={**SOURCES, "status": Source("text")},
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Ask a target once."""
    return await talking(target, tools, _ask)


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    options: GrpcOptions = talk.target.options
    tls = options.context(tools, "h2") if urlsplit(talk.target.endpoint_url).scheme == "grpcs" else None
    way = await dial(talk, tools)
    host = f"[{way.host}]" if ":" in way.host else way.host
    async with carried(talk, way, protocol="gRPC", tls=tls, server_name=options.server_name) as line:
        line.words = lambda error: _words(error, broken=line.broken is not None)
        async with line.phase("waiting for the answer", "first_byte_ms"), _channel(line, f"{host}:{way.port}") as channel:
            metadata = tuple((name, value.get_secret_value()) for name, value in options.metadata.items())
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=options.service), metadata=metadata
            )
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) if 0 <= answer.status <= 3 else "UNKNOWN"  # noqa: PLR2004
    facts = Facts(values={"status": status} | line.shown(tools.clock()))
    if answer.status == SERVING:
        return talk.healthy(facts=facts, details={"status": status})
    return talk.unwell(ErrorType.ASSERTION_FAILED, f"the service says {status}, expected SERVING", facts=facts, details={"status": status})


@asynccontextmanager
async def _channel(line: Line, authority: str) -> AsyncIterator[grpc.aio.Channel]:
    """Give a channel whose one connection is the line: gRPC takes the name of a local socket, which only this process may connect to."""
    name = f"sla-monitor-{secrets.token_hex(16)}"
    options = (
        ("grpc.default_authority", authority),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen(1)
        listener.setblocking(False)
        joining = asyncio.create_task(_join(line, listener))
        try:
            async with grpc.aio.insecure_channel(f"unix-abstract:{name}", options=options) as channel:
                yield channel
        finally:
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)


async def _join(line: Line, listener: socket.socket) -> None:
    """Carry between what gRPC connected and the line, until either is cut."""
    loop = asyncio.get_running_loop()
    while True:
        core, _ = await loop.sock_accept(listener)
        with core:
            if _UCRED.unpack(core.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0] == os.getpid():
                core.setblocking(False)
                listener.close()
                await asyncio.gather(_pour(core, line.end), _pour(line.end, core))
                return


async def _pour(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, 65_536):
        await loop.sock_sendall(sink, data)
    sink.shutdown(socket.SHUT_WR)


def _words(error: Exception, *, broken: bool) -> str | None:
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    code = error.code()
    if code in MAY_BE_OURS and (broken or "Failed parsing HTTP/2" in (error.details() or "")):
        return None
    if "larger than max" in (error.details() or ""):
        return f"answer longer than {MAX_MESSAGE_BYTES // 1024} KiB"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "refused: the server has no health service"
    if code is grpc.StatusCode.NOT_FOUND:
        return "refused: the server does not know the service"
    return f"refused: {code.name}"
