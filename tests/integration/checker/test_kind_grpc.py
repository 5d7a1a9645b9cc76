"""gRPC checks against grpcio's own server with its health service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.checker.probes import KINDS
from services.checker.probes.talk import trusting
from shared.contracts.codes import ErrorType, Outcome
from tests.certificates import Certificate, good
from tests.proxy import running_proxy
from tests.watched import BAD_CERTIFICATES, bad, check

Status = health_pb2.HealthCheckResponse.ServingStatus
WORDS = "the service says {}, expected SERVING"


@dataclass(slots=True)
class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated code has no types
    """Answers by the name that is asked for, and remembers what came with it."""

    heard: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def Check(  # noqa: N802  # gRPC's name
        self,
        request: health_pb2.HealthCheckRequest,
        context: "grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]",
    ) -> health_pb2.HealthCheckResponse:
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        self.heard.append((request.service, metadata))
        if request.service == "slow":
            await asyncio.sleep(60)  # longer than any check waits
        if request.service.startswith("refused-"):
            await context.abort(getattr(grpc.StatusCode, request.service.removeprefix("refused-")), "hunter2 of pid 4711")
        if request.service == "huge":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "x" * 1_000_000)
        return health_pb2.HealthCheckResponse(status=Status.Value(request.service or "SERVING"))


@asynccontextmanager
async def running(health: Health | None, certificate: Certificate | None = None) -> AsyncIterator[int]:
    server = grpc.aio.server()
    if health is not None:
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (certificate.key.encode(), certificate.chain.encode())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_a_service_that_serves_is_healthy() -> None:
    health = Health()
    async with running(health) as port:
        found = await check("grpc", f"grpc://127.0.0.1:{port}", metadata={"authorization": "Bearer hunter2"})
    assert (found.outcome, found.error_message, found.facts.values) == (Outcome.HEALTHY, None, {"status": "SERVING"})
    assert found.times.first_byte_ms is not None
    assert [(name, sent["authorization"]) for name, sent in health.heard] == [("", "Bearer hunter2")]


@pytest.mark.parametrize("status", ["NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN"])
async def test_a_service_that_does_not_serve_fails(status: str) -> None:
    async with running(Health()) as port:
        found = await check("grpc", f"grpc://127.0.0.1:{port}", service=status)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.ASSERTION_FAILED, WORDS.format(status))
    assert found.response_time_ms is not None
    assert found.details == {"status": status}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("NOT_FOUND", "refused: the server does not know the service"),
        ("UNAUTHENTICATED", "refused: UNAUTHENTICATED"),
        ("UNAVAILABLE", "refused: UNAVAILABLE"),
        ("INTERNAL", "refused: INTERNAL"),
    ],
)
async def test_a_refusal_is_told_by_its_code_only(code: str, words: str) -> None:
    async with running(Health()) as port:
        found = await check("grpc", f"grpc://127.0.0.1:{port}", service=f"refused-{code}")
    assert (found.error_type, found.error_message) == (ErrorType.CONNECTION_ERROR, f"{words}, while waiting for the answer")


async def test_a_server_without_the_health_service_fails() -> None:
    async with running(None) as port:
        found = await check("grpc", f"grpc://127.0.0.1:{port}")
    assert found.outcome is Outcome.FAILED
    assert found.error_message == "refused: the server has no health service, while waiting for the answer"


async def test_tls_with_a_trusted_certificate() -> None:
    async with running(Health(), good("localhost")) as port:
        found = await check("grpc", f"grpcs://localhost:{port}")
        assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
        assert found.times.tls_ms is not None
        assert found.facts.values["certificate"]["names"] == ("localhost",)
        assert (await check("grpc", f"grpcs://127.0.0.1:{port}", server_name="localhost")).outcome is Outcome.HEALTHY


async def test_what_tls_is_made_with_is_made_once() -> None:
    """Seen red with a context of its own for each check: reading the authorities takes longer than the check, on the loop."""
    async with running(Health(), good("localhost")) as port:
        await check("grpc", f"grpcs://localhost:{port}")
        before = trusting.cache_info().hits
        await check("grpc", f"grpcs://localhost:{port}")
    assert trusting.cache_info().hits == before + 1


@pytest.mark.parametrize("sort", BAD_CERTIFICATES)
async def test_tls_with_a_bad_certificate(sort: str) -> None:
    certificate, words = bad(sort)
    async with running(Health(), certificate) as port:
        found = await check("grpc", f"grpcs://localhost:{port}")
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.TLS_ERROR, words)
        assert (await check("grpc", f"grpcs://localhost:{port}", verify_tls=False)).outcome is Outcome.HEALTHY


@pytest.mark.parametrize(("scheme", "phase"), [("grpc", "waiting for the answer"), ("grpcs", "securing the connection")])
async def test_a_stalled_link_times_out_in_its_phase(scheme: str, phase: str) -> None:
    async with running(Health()) as port, running_proxy(f"grpc://127.0.0.1:{port}") as proxy:
        proxy.stall()
        found = await check("grpc", f"{scheme}://127.0.0.1:{proxy.port}", timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, f"not done within 300 ms, while {phase}")


async def test_a_slow_answer_times_out() -> None:
    async with running(Health()) as port:
        found = await check("grpc", f"grpc://127.0.0.1:{port}", service="slow", timeout_ms=300)
    assert found.error_message == "not done within 300 ms, while waiting for the answer"


async def test_a_huge_refusal_fails_in_few_words() -> None:
    async with running(Health()) as port:
        found = await check("grpc", f"grpc://127.0.0.1:{port}", service="huge")
    assert found.outcome is Outcome.FAILED
    assert len(found.error_message or "") < 100


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with running(Health()) as port:
        assert (await check("grpc", f"grpc://127.0.0.1:{port}")).outcome is Outcome.HEALTHY


@pytest.mark.parametrize("metadata", [{"grpc-timeout": "1"}, {"a-bin": "x"}, {"Upper": "x"}, {"a": "line\nbreak"}, {"a": "á"}, {"": "x"}])
def test_metadata_that_cannot_be_sent_is_refused(metadata: dict[str, str]) -> None:
    assert KINDS["grpc"].read({"metadata": metadata})[1]
