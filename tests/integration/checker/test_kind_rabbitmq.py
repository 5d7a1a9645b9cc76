"""RabbitMQ checks against the run's own RabbitMQ."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pamqp.commands
import pamqp.frame
import pytest

from services.checker.domain.target import Measurement
from services.checker.probes import KINDS
from shared.contracts.codes import ErrorType, Outcome
from tests.certificates import good
from tests.proxy import running_proxy
from tests.servers import Vhost
from tests.watched import BAD_CERTIFICATES, bad, check, fronted, service

OPEN_CHANNEL, CLOSE_CONNECTION = b"\x00\x14\x00\x0a", b"\x00\x0a\x00\x32"
"""Class and method, as they stand in a frame."""


async def ask(
    vhost: Vhost,
    *,
    port: int | None = None,
    scheme: str = "amqp",
    host: str = "127.0.0.1",
    name: str | None = None,
    **options: Any,  # noqa: ANN401  # JSON
) -> Measurement:
    url = f"{scheme}://{host}:{port or vhost.server.port}/{vhost.name if name is None else name}"
    settings: dict[str, Any] = {"username": vhost.server.user, "password": vhost.server.password, **options}
    return await check("rabbitmq", url, **settings)


async def test_a_sign_in_and_a_channel_are_healthy(vhost: Vhost) -> None:
    found = await ask(vhost)
    assert (found.outcome, found.error_message, found.facts.values) == (Outcome.HEALTHY, None, {})
    assert found.times.first_byte_ms is not None


async def test_the_root_is_a_virtual_host_too(vhost: Vhost) -> None:
    assert {(await ask(vhost, name=name)).outcome for name in ("", "%2F")} == {Outcome.HEALTHY}


async def test_a_queue_is_seen_by_assertions(vhost: Vhost) -> None:
    async with await aio_pika.connect(vhost.amqp_url) as link:
        channel = await link.channel()
        queue = await channel.declare_queue("jobs", durable=True)
        for _ in range(3):
            await channel.default_exchange.publish(aio_pika.Message(b"x"), routing_key="jobs")
        found = await ask(vhost, queue="jobs")
        assert (found.outcome, found.facts.values) == (Outcome.HEALTHY, {"messages": 3, "consumers": 0})
        assert found.details == {"messages": 3, "consumers": 0}
        await queue.declare()
        exclusive = await channel.declare_queue("mine", exclusive=True)
        assert (await ask(vhost, queue=exclusive.name)).error_message == "refused: locked by another connection (405), while asking"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"password": "hunter2"}, "refused: wrong user name or password, while signing in"),
        ({"username": "nobody"}, "refused: wrong user name or password, while signing in"),
        ({"name": "none-4711"}, "refused: no such virtual host, or no access to it, while signing in"),
        ({"queue": "hunter2"}, "refused: not found (404), while asking"),
    ],
)
async def test_a_refusal_is_told_by_its_code_only(
    vhost: Vhost, options: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = await ask(vhost, **options)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.CONNECTION_ERROR, message)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING], "it is in the result"


async def test_tls_with_a_trusted_certificate(vhost: Vhost) -> None:
    async with fronted(vhost.server.port, good("localhost")) as port:
        found = await ask(vhost, port=port, scheme="amqps", host="localhost")
    assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
    assert found.times.tls_ms is not None
    assert found.facts.values["certificate"]["names"] == ("localhost",)


@pytest.mark.parametrize("sort", BAD_CERTIFICATES)
async def test_tls_with_a_bad_certificate(vhost: Vhost, sort: str) -> None:
    certificate, words = bad(sort)
    async with fronted(vhost.server.port, certificate) as port:
        found = await ask(vhost, port=port, scheme="amqps", host="localhost")
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.TLS_ERROR, words)
        assert (await ask(vhost, port=port, scheme="amqps", host="localhost", verify_tls=False)).outcome is Outcome.HEALTHY


@pytest.mark.parametrize(("scheme", "phase"), [("amqp", "signing in"), ("amqps", "securing the connection")])
async def test_a_stalled_link_times_out_in_its_phase(vhost: Vhost, scheme: str, phase: str) -> None:
    async with running_proxy(vhost.amqp_url) as proxy:
        proxy.stall()
        found = await ask(vhost, port=proxy.port, scheme=scheme, timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, f"not done within 300 ms, while {phase}")


@asynccontextmanager
async def overheard(vhost: Vhost, said: bytearray, forced: bytes = b"") -> AsyncIterator[int]:
    """Stand in front of the broker and note what a client says; `forced` is what it hears instead of an answer to its first channel."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", vhost.server.port)

        async def hear() -> None:
            while data := await reader.read(65_536):
                said.extend(data)
                if forced and OPEN_CHANNEL in data:
                    writer.write(forced)
                else:
                    far_writer.write(data)
            far_writer.write_eof()

        async def speak() -> None:
            while data := await far_reader.read(65_536):
                writer.write(data)

        try:
            await asyncio.gather(hear(), speak())
        finally:
            far_writer.close()

    async with service(answer) as port:
        yield port


async def test_it_says_good_bye_and_leaves_nothing_behind(vhost: Vhost) -> None:
    """Seen red without the close: the broker's log would have a warning for every check."""
    before = asyncio.all_tasks()
    several: tuple[dict[str, Any], ...] = ({}, {"queue": "none"})
    for options in several:
        said = bytearray()
        async with overheard(vhost, said) as port:
            await ask(vhost, port=port, **options)
        assert CLOSE_CONNECTION in said
        assert asyncio.all_tasks() == before


async def test_a_broker_that_sends_everybody_away_is_heard_and_not_logged(vhost: Vhost, caplog: pytest.LogCaptureFixture) -> None:
    """Seen red without the filter: aiormq logs what is in the result already, and the broker's own words."""
    forced = pamqp.frame.marshal(pamqp.commands.Connection.Close(320, "CONNECTION_FORCED - hunter2", 0, 0), 0)
    async with overheard(vhost, bytearray(), forced) as port:
        found = await ask(vhost, port=port)
    assert (found.outcome, found.error_message) == (Outcome.FAILED, "refused: shutting down (320), while asking")
    assert not caplog.records


@pytest.mark.parametrize(
    ("url", "flaws"), [("amqp://h", 0), ("amqp://h/", 0), ("amqp://h/a%2Fb", 0), ("amqp://h/a/b", 1), ("amqp://h/a?x=1", 1)]
)
def test_an_address_names_one_virtual_host(url: str, flaws: int) -> None:
    kind = KINDS["rabbitmq"]
    assert kind.flaws is not None
    assert len(kind.flaws(url, kind.read({})[0])) == flaws
