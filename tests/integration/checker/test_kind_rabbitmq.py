"""RabbitMQ checks against the run's own RabbitMQ."""

import asyncio
import logging
from typing import Any

import aio_pika
import pytest

from services.checker.domain.target import Measurement
from services.checker.probes import KINDS
from shared.contracts.codes import ErrorType, Outcome
from tests.certificates import good
from tests.proxy import running_proxy
from tests.servers import Vhost
from tests.watched import BAD_CERTIFICATES, bad, check, fronted


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


async def test_nothing_stays_behind(vhost: Vhost) -> None:
    """Seen red without the close: aiormq's reader and writer went on."""
    before = asyncio.all_tasks()
    several: tuple[dict[str, Any], ...] = ({}, {"queue": "none"}, {"password": "wrong"})
    for options in several:
        await ask(vhost, **options)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("url", "flaws"), [("amqp://h", 0), ("amqp://h/", 0), ("amqp://h/a%2Fb", 0), ("amqp://h/a/b", 1), ("amqp://h/a?x=1", 1)]
)
def test_an_address_names_one_virtual_host(url: str, flaws: int) -> None:
    kind = KINDS["rabbitmq"]
    assert kind.flaws is not None
    assert len(kind.flaws(url, kind.read({})[0])) == flaws
