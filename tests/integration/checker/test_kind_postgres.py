"""PostgreSQL checks against the run's own PostgreSQL."""

import asyncio
import struct
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.checker.domain.target import Measurement
from services.checker.probes import KINDS
from services.checker.probes.postgres import SSL_REQUEST
from shared.contracts.codes import ErrorType, Outcome
from tests.certificates import good
from tests.proxy import running_proxy
from tests.waiting import until
from tests.watched import BAD_CERTIFICATES, babbling, bad, check, fronted, service


async def ask(
    postgres: str,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    database: str = "postgres",
    **options: Any,  # noqa: ANN401  # JSON
) -> Measurement:
    parts = urlsplit(postgres)
    url = f"postgresql://{host}:{port or parts.port}/{database}"
    settings: dict[str, Any] = {"username": parts.username, "password": parts.password, **options}
    return await check("postgres", url, **settings)


async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert await reader.readexactly(8) == SSL_REQUEST
    writer.write(b"S")


async def test_a_sign_in_and_a_query_are_healthy(postgres: str) -> None:
    found = await ask(postgres)
    assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
    assert found.facts.values == {"value": "1", "number": 1.0}
    assert found.response_time_ms is not None
    assert found.times.total_ms is not None
    assert found.response_time_ms < found.times.total_ms, "the query's time alone"


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("select 'ready'", {"value": "ready"}),
        ("select true", {"value": "true"}),
        ("select 12.50::numeric", {"value": "12.50", "number": 12.5}),
        ("select null", {}),
        ("select 1 where false", {}),
        ("select repeat('x', 100000)", {"value": "x" * 1000}),
        ("select generate_series(5, 1000000)", {"value": "5", "number": 5.0}),
        ("select '12; drop table x'", {"value": "12; drop table x"}),
    ],
)
async def test_the_first_value_is_seen_by_assertions(postgres: str, query: str, values: dict[str, object]) -> None:
    found = await ask(postgres, query=query)
    assert (found.outcome, found.facts.values) == (Outcome.HEALTHY, values)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select 2", "not the expected value"),
        ("select null", "no value, another was expected"),
        ("select 1 where false", "no value, another was expected"),
    ],
)
async def test_another_value_than_the_expected_one_fails(postgres: str, query: str, message: str) -> None:
    found = await ask(postgres, query=query, expected="1")
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.ASSERTION_FAILED, message)
    assert found.response_time_ms is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"password": "hunter2"}, "refused: invalid password (28P01), while signing in"),
        ({"username": "nobody-4711"}, "refused: invalid password (28P01), while signing in"),
        ({"database": "none-4711"}, "refused: invalid catalog name (3D000), while signing in"),
        ({"query": "select * from hunter2"}, "refused: undefined table (42P01), while asking"),
        ({"query": "selec 1"}, "refused: syntax (42601), while asking"),
        ({"query": "select 1; select 2"}, "refused: syntax (42601), while asking"),
        ({"query": "create table hunter2 ()"}, "refused: read only sql transaction (25006), while asking"),
        ({"query": "commit; create table hunter2 ()"}, "refused: syntax (42601), while asking"),
        ({"query": "select 1 / 0"}, "refused: division by zero (22012), while asking"),
        ({"tls": "require"}, "the server offers no TLS, while securing the connection"),
    ],
)
async def test_a_refusal_is_told_by_its_code_only(postgres: str, options: dict[str, Any], message: str) -> None:
    found = await ask(postgres, **options)
    assert (found.outcome, found.error_message) == (Outcome.FAILED, message)


def refusing(state: bytes) -> bytes:
    """Return an ErrorResponse with these bytes as its SQLSTATE (PostgreSQL's documentation, "Message Formats")."""
    fields = b"SERROR\0C" + state + b"\0Mno\0\0"
    return b"E" + struct.pack("!i", len(fields) + 4) + fields


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"42P01", "refused: undefined table (42P01), while signing in"),
        (b"hunter2 " * 100_000, "refused, without a valid SQLSTATE, while signing in"),
        (b"42p01", "refused, without a valid SQLSTATE, while signing in"),
        (b"42P01\n", "refused, without a valid SQLSTATE, while signing in"),
    ],
)
async def test_what_a_server_calls_a_state_is_told_only_if_it_is_one(state: bytes, message: str) -> None:
    """Seen red with the state told as it comes: the message had 800,000 characters of the server's."""
    async with service(babbling(refusing(state))) as port:
        found = await check("postgres", f"postgresql://127.0.0.1:{port}/any", tls="off")
    assert (found.outcome, found.error_message) == (Outcome.FAILED, message)


async def test_nothing_of_the_environment_is_given_to_a_service(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with a password of None: the checker's own was sent to whoever is watched."""
    monkeypatch.setenv("PGPASSWORD", urlsplit(postgres).password or "")
    monkeypatch.setenv("PGOPTIONS", "-c no.such=1")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert (await ask(postgres, password="")).error_message == "refused: invalid password (28P01), while signing in"
    assert (await ask(postgres)).outcome is Outcome.HEALTHY


@pytest.mark.parametrize("mode", ["prefer", "require", "verify"])
async def test_tls_is_made_if_it_can_be(postgres: str, mode: str) -> None:
    async with fronted(urlsplit(postgres).port or 0, good("localhost"), agree) as port:
        found = await ask(postgres, port=port, host="localhost", tls=mode)
    assert (found.outcome, found.error_message, found.details) == (Outcome.HEALTHY, None, {"tls": True})
    assert found.times.tls_ms is not None
    assert found.facts.values["certificate"]["names"] == ("localhost",)


@pytest.mark.parametrize("sort", BAD_CERTIFICATES)
async def test_tls_with_a_bad_certificate(postgres: str, sort: str) -> None:
    certificate, words = bad(sort)
    async with fronted(urlsplit(postgres).port or 0, certificate, agree) as port:
        found = await ask(postgres, port=port, host="localhost", tls="verify")
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.TLS_ERROR, words)
        assert (await ask(postgres, port=port, host="localhost", tls="require")).outcome is Outcome.HEALTHY


@pytest.mark.parametrize(("mode", "phase"), [("off", "signing in"), ("prefer", "securing the connection")])
async def test_a_stalled_link_times_out_in_its_phase(postgres: str, mode: str, phase: str) -> None:
    async with running_proxy(postgres) as proxy:
        proxy.stall()
        found = await ask(postgres, port=proxy.port, timeout_ms=300, tls=mode)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, f"not done within 300 ms, while {phase}")


async def test_a_handshake_that_stalls_times_out() -> None:
    async with service(babbling(b"S")) as port:
        found = await check("postgres", f"postgresql://127.0.0.1:{port}/any", timeout_ms=300)
    assert found.error_message == "not done within 300 ms, while securing the connection"


async def test_a_slow_query_times_out_and_does_not_go_on(postgres: str) -> None:
    """Seen red without statement_timeout: the server slept on for a minute."""
    found = await ask(postgres, query="select pg_sleep(60) as abandoned", timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, "not done within 300 ms, while asking")
    assert found.response_time_ms is None
    conn = await asyncpg.connect(postgres)
    try:

        async def given_up() -> bool:
            query = (
                "select count(*) from pg_stat_activity where query like '%as abandoned' and state = 'active' and pid <> pg_backend_pid()"
            )
            return bool(await conn.fetchval(query) == 0)

        await until(given_up, within_s=5, what="the end of the abandoned query")
    finally:
        await conn.close()


async def test_a_huge_answer_is_cut_off(postgres: str) -> None:
    found = await ask(postgres, query="select repeat('x', 50000000)")
    assert (found.error_type, found.error_message) == (ErrorType.CONNECTION_ERROR, "answer longer than 4 MiB, while asking")


@pytest.mark.parametrize(
    "url", ["postgresql://h", "postgresql://h/", "postgresql://h/a/b", "postgresql://h/a?sslmode=off", "postgresql://h/a#b"]
)
def test_an_address_names_one_database(url: str) -> None:
    kind = KINDS["postgres"]
    assert kind.flaws is not None
    assert [flaw.field for flaw in kind.flaws(url, kind.read({})[0])] == ["endpoint_url"]


def test_options_that_cannot_work_are_named() -> None:
    flaws = KINDS["postgres"].read({"tls": "maybe", "authorities": "no PEM", "password": 5, "query": ""})[1]
    assert {flaw.field for flaw in flaws} == {"options.tls", "options.authorities", "options.password", "options.query"}


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(KINDS["postgres"].read({"password": "hunter2"})[0])
