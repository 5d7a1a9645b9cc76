"""Redis checks against the run's own Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from services.checker.domain.target import Measurement
from shared.contracts.codes import ErrorType, Outcome
from tests.certificates import authority, good
from tests.proxy import running_proxy
from tests.watched import BAD_CERTIFICATES, babbling, bad, check, fronted, service


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url) as found:
        yield found


async def ask(
    redis_url: str,
    *,
    port: int | None = None,
    scheme: str = "redis",
    host: str = "127.0.0.1",
    **options: Any,  # noqa: ANN401  # JSON
) -> Measurement:
    parts = urlsplit(redis_url)
    url = f"{scheme}://{host}:{port or parts.port}{parts.path}"
    settings: dict[str, Any] = {"password": parts.password or "", **options}
    return await check("redis", url, **settings)


async def test_a_sign_in_and_a_ping_are_healthy(redis_url: str) -> None:
    found = await ask(redis_url)
    assert (found.outcome, found.error_message, found.facts.values) == (Outcome.HEALTHY, None, {})
    assert found.times.connect_ms is not None
    assert found.times.first_byte_ms is not None


async def test_a_key_is_seen_by_assertions(redis_url: str, client: redis.asyncio.Redis) -> None:
    await client.set("depth", "12.5")
    assert (await ask(redis_url, key="depth")).facts.values == {"value": "12.5", "number": 12.5}
    await client.set("word", "x" * 5_000_000)
    assert (await ask(redis_url, key="word")).facts.values == {"value": "x" * 1000}
    assert (await ask(redis_url, key="nothing")).facts.values == {"value": ""}


@pytest.mark.parametrize("password", ["wrong-secret", ""])
async def test_a_wrong_password_is_refused_and_not_told(redis_url: str, password: str) -> None:
    found = await ask(redis_url, password=password)
    assert (found.outcome, found.error_type) == (Outcome.FAILED, ErrorType.CONNECTION_ERROR)
    assert found.error_message in {
        "refused: wrong user name or password, while signing in",
        "refused: a password is required, while signing in",
    }


async def test_a_database_that_is_not_there_is_refused(redis_url: str) -> None:
    found = await check("redis", f"redis://127.0.0.1:{urlsplit(redis_url).port}/99999", password=urlsplit(redis_url).password)
    assert found.error_message == "refused: no such database, while signing in"


async def test_a_key_that_is_no_text_is_refused(redis_url: str, client: redis.asyncio.Redis) -> None:
    await client.rpush("list", "a")
    assert (await ask(redis_url, key="list")).error_message == "refused: the key holds no text, while asking"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "refused: still loading its data"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", "refused: its primary is down"),
        (b"-READONLY You can't write against a read only replica.\r\n", "refused: read-only replica"),
        (b"-ERR max number of clients reached\r\n", "refused: too many clients"),
        (b"-ERR the password is hunter2 and the pid 4711\r\n", "refused: ERR"),
        (b"-STRANGE hunter2\r\n", "refused: STRANGE"),
        (b"+SOMETHING ELSE\r\n", "the answer is not Redis"),
    ],
)
async def test_what_a_server_says_is_told_by_its_code_only(said: bytes, words: str) -> None:
    async with service(babbling(said)) as port:
        found = await check("redis", f"redis://127.0.0.1:{port}")
    assert (found.outcome, found.error_message) == (Outcome.FAILED, f"{words}, while asking")


async def test_tls_with_a_trusted_certificate(redis_url: str) -> None:
    async with fronted(urlsplit(redis_url).port or 0, good("localhost")) as port:
        found = await ask(redis_url, port=port, scheme="rediss", host="localhost")
        assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
        assert found.times.tls_ms is not None
        assert found.facts.values["certificate"]["names"] == ("localhost",)
        strange = await ask(redis_url, port=port, scheme="rediss", host="localhost", authorities=authority("other").pem)
        assert (strange.error_type, strange.error_message) == (ErrorType.TLS_ERROR, "unable to get local issuer certificate")
        named = await ask(redis_url, port=port, scheme="rediss", server_name="localhost")
        assert named.outcome is Outcome.HEALTHY


@pytest.mark.parametrize("sort", BAD_CERTIFICATES)
async def test_tls_with_a_bad_certificate(redis_url: str, sort: str) -> None:
    certificate, words = bad(sort)
    async with fronted(urlsplit(redis_url).port or 0, certificate) as port:
        found = await ask(redis_url, port=port, scheme="rediss", host="localhost")
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.TLS_ERROR, words)
        assert (await ask(redis_url, port=port, scheme="rediss", host="localhost", verify_tls=False)).outcome is Outcome.HEALTHY


@pytest.mark.parametrize(("scheme", "phase"), [("redis", "signing in"), ("rediss", "securing the connection")])
async def test_a_stalled_link_times_out_in_its_phase(redis_url: str, scheme: str, phase: str) -> None:
    async with running_proxy(redis_url) as proxy:
        proxy.stall()
        found = await ask(redis_url, port=proxy.port, scheme=scheme, timeout_ms=300)
        assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, f"not done within 300 ms, while {phase}")


async def test_many_at_once(redis_url: str) -> None:
    found = await asyncio.gather(*(ask(redis_url) for _ in range(50)))
    assert {one.outcome for one in found} == {Outcome.HEALTHY}
