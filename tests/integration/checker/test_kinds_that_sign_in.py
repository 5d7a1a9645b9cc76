"""What all kinds that sign in and ask have in common: every way in which a network fails them, in the same words."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from infra.ops.processes import wait_until
from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Measurement
from services.checker.probes import PROBES
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType, Outcome
from tests.waiting import until
from tests.watched import NEVER_A_NAME, NOBODYS, Answer, babbling, check, closing, resetting, saying, service, silent, target

URLS = {
    "grpc": "grpc://{}",
    "smtp": "smtp://{}",
    "postgres": "postgresql://{}/any",
    "mysql": "mysql://{}/any",
    "redis": "redis://{}",
    "rabbitmq": "amqp://{}/any",
}
FIRST = {
    "grpc": "waiting for the answer",
    "smtp": "waiting for the greeting",
    "postgres": "securing the connection",
    "mysql": "waiting for the greeting",
    "redis": "asking",
    "rabbitmq": "signing in",
}
"""What each is doing when it has to wait for the service for the first time."""
BABBLED = FIRST | {"mysql": "signing in"}
FLOODED = FIRST | {"postgres": "signing in", "mysql": "signing in"}
ENDLESS = {"smtp": "the answer is not SMTP"}
"""aiosmtplib has a limit of its own, and a lower one."""
PLAIN = {"postgres": {"tls": "off"}}
PROTOCOLS = {"grpc": "gRPC", "smtp": "SMTP", "postgres": "PostgreSQL", "mysql": "MySQL", "redis": "Redis", "rabbitmq": "AMQP"}
FLOODS = {
    "grpc": (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", (b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + bytes(8)) * 1000),
    "smtp": (b"", b"220-more\r\n" * 1000),
    "postgres": (b"", b"S\x00\x00\x03\xecname\x00" + b"x" * 994 + b"\x00"),
    "mysql": (b"\xff\xff\xff\x00\x0a", b"x" * 10_000),
    "redis": (b"$500000000\r\n", b"x" * 10_000),
    "rabbitmq": (b"\x01\x00\x00\x1f\xff\xff\xff", b"x" * 10_000),
}
"""How a service would begin an answer that never ends."""
BABBLE = {"rabbitmq": b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0aX"}
"""What is no answer to each; to AMQP, other words are the beginning of a long frame."""

T = TypeVar("T")
kinds = pytest.mark.parametrize("kind", URLS)


Run = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    """Run on asyncio's own loop, and on the one that the checker runs on: libraries may know one better than the other."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Have gRPC's core open what it keeps for good."""
    for loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(check_against("grpc", closing))


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """Threads and descriptors are as they were. Seen red with a line whose local sockets stay open."""
    threads, descriptors = set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))
    yield
    gc.collect()
    assert not [one.name for one in set(threading.enumerate()) - threads if one.name != "names"]
    # gRPC's core closes its own a moment later, on a thread that Python does not see
    wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors, timeout_s=5, what="the end of every descriptor")


async def check_against(kind: str, answer: Answer, *, timeout_ms: int = 300, **options: Any) -> Measurement:  # noqa: ANN401  # JSON
    async with service(answer) as port:
        tasks = asyncio.all_tasks()
        found = await check(kind, URLS[kind].format(f"127.0.0.1:{port}"), timeout_ms=timeout_ms, **options)
        left = {one for one in asyncio.all_tasks() - tasks if "on_link" not in repr(one)}
        assert not left
    return found


def told(found: Measurement) -> tuple[ErrorType | None, str | None]:
    assert found.outcome is Outcome.FAILED
    return found.error_type, found.error_message


@pytest.mark.parametrize(("kind", "scheme"), [("grpc", "grpcs"), ("smtp", "smtps"), ("redis", "rediss"), ("rabbitmq", "amqps")])
async def test_nothing_is_connected_to_without_authorities(kind: str, scheme: str) -> None:
    """Seen red with what TLS needs made after the connection, which stayed open then until the garbage was collected."""
    connected = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(reader)
        await silent(reader, writer)

    async with service(answer) as port:
        tools = Tools(None, HostRules(), "/none")  # type: ignore[arg-type]  # none of these kinds goes by the engine
        found = await PROBES[kind](target(kind, f"{scheme}://127.0.0.1:{port}"), tools)
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def heard() -> bool:
            return bool(connected)

        await until(heard, within_s=5, what="the connection after the check")
        writer.close()
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: the certificate authorities to trust cannot be read")
    assert len(connected) == 1


@kinds
def test_silence_times_out_in_its_phase(run: Run[Measurement], kind: str) -> None:
    assert told(run(check_against(kind, silent))) == (ErrorType.TIMEOUT, f"not done within 300 ms, while {FIRST[kind]}")


@kinds
def test_a_drip_does_not_keep_a_check_alive(run: Run[Measurement], kind: str) -> None:
    first, then = FLOODS[kind]
    began = time.monotonic()
    assert told(run(check_against(kind, saying(first, then[:1], pause_s=0.02))))
    assert time.monotonic() - began < 1


@kinds
def test_a_reset_is_said_so(run: Run[Measurement], kind: str) -> None:
    found = told(run(check_against(kind, resetting, timeout_ms=2000)))
    assert found == (ErrorType.CONNECTION_ERROR, f"connection reset, while {FIRST[kind]}")


@kinds
def test_a_close_without_a_word_is_said_so(run: Run[Measurement], kind: str) -> None:
    found = told(run(check_against(kind, closing, timeout_ms=2000)))
    assert found == (ErrorType.CONNECTION_ERROR, f"connection closed, while {FIRST[kind]}")


@kinds
def test_another_protocol_is_not_understood(run: Run[Measurement], kind: str) -> None:
    found = told(run(check_against(kind, babbling(BABBLE.get(kind, NOBODYS)), timeout_ms=2000)))
    assert found == (ErrorType.CONNECTION_ERROR, f"the answer is not {PROTOCOLS[kind]}, while {BABBLED[kind]}")


@kinds
def test_an_endless_answer_is_cut_off(run: Run[Measurement], kind: str) -> None:
    error_type, message = told(run(check_against(kind, saying(*FLOODS[kind]), timeout_ms=5000, **PLAIN.get(kind, {}))))
    assert error_type is ErrorType.CONNECTION_ERROR
    assert message == f"{ENDLESS.get(kind, 'answer longer than 4 MiB')}, while {FLOODED[kind]}"


@kinds
def test_a_closed_port_refuses(run: Run[Measurement], kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = run(check(kind, URLS[kind].format(f"127.0.0.1:{taken.getsockname()[1]}")))
    assert told(found) == (ErrorType.CONNECTION_ERROR, "connection refused, while connecting")


@kinds
def test_a_name_that_is_not_there_is_a_dns_error(run: Run[Measurement], kind: str) -> None:
    assert told(run(check(kind, URLS[kind].format(f"{NEVER_A_NAME}:1")))) == (ErrorType.DNS_ERROR, "name not found")


@kinds
def test_a_forbidden_address_is_not_connected_to(run: Run[Measurement], kind: str) -> None:
    with socket.socket() as service:
        service.bind(("127.0.0.1", 0))
        service.listen()
        service.setblocking(False)
        rules = HostRules(denied=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
        found = run(check(kind, URLS[kind].format(f"localhost:{service.getsockname()[1]}"), rules=rules))
        with pytest.raises(BlockingIOError):
            service.accept()
    assert found.outcome is Outcome.UNKNOWN
    assert "denied network" in (found.error_message or "")
