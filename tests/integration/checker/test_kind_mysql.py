"""MySQL checks against a MariaDB of this module's own."""

import asyncio
from collections.abc import Iterator
from typing import Any

import aiomysql
import pytest

from services.checker.domain.target import Measurement
from services.checker.probes import KINDS
from shared.contracts.codes import ErrorType, Outcome
from tests.certificates import good
from tests.mariadb import Mariadb, running_mariadb
from tests.proxy import running_proxy
from tests.waiting import until
from tests.watched import BAD_CERTIFICATES, babbling, bad, check, service

PLAIN_GREETING = b"\x0a5.5.5-X\0" + bytes(4) + b"a" * 8 + b"\0" + b"\x00\x82" + b"\x08\x02\x00\x08\x00\x15" + bytes(10) + b"b" * 12 + b"\0"
"""A server without TLS; it asks for the password by a plug-in."""


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Mariadb]:
    with running_mariadb(good("localhost")) as found:
        yield found


async def ask(
    server: Mariadb,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    database: str = "watched",
    **options: Any,  # noqa: ANN401  # JSON
) -> Measurement:
    url = f"mysql://{host}:{port or server.port}/{database}"
    settings: dict[str, Any] = {"username": server.user, "password": server.password, **options}
    return await check("mysql", url, **settings)


@pytest.mark.parametrize("mode", ["off", "prefer", "require", "verify"])
async def test_a_sign_in_and_a_query_are_healthy(mariadb: Mariadb, mode: str) -> None:
    found = await ask(mariadb, tls=mode, host="localhost")
    assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
    shown = dict(found.facts.values)
    assert ("days_left" in shown.pop("certificate", {})) == (mode != "off")
    assert shown == {"value": "1", "number": 1.0}
    assert found.details == {"tls": mode != "off"}
    assert (found.times.tls_ms is None) == (mode == "off")
    assert found.response_time_ms is not None
    assert found.times.total_ms is not None
    assert found.response_time_ms < found.times.total_ms, "the query's time alone"


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("select 'ready'", {"value": "ready"}),
        ("select 12.50", {"value": "12.50", "number": 12.5}),
        ("select null", {}),
        ("select 1 where false", {}),
        ("do 1", {}),
        ("select repeat('x', 100000)", {"value": "x" * 1000}),
        ("select seq from seq_5_to_1000000", {"value": "5", "number": 5.0}),
        ("select '%s'", {"value": "%s"}),
        ("select now() > '2000-01-01'", {"value": "1", "number": 1.0}),
    ],
)
async def test_the_first_value_is_seen_by_assertions(mariadb: Mariadb, query: str, values: dict[str, object]) -> None:
    found = await ask(mariadb, query=query, tls="off")
    assert (found.outcome, found.error_message, found.facts.values) == (Outcome.HEALTHY, None, values)


async def test_another_value_than_the_expected_one_fails(mariadb: Mariadb) -> None:
    found = await ask(mariadb, query="select 2", expected="1")
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.ASSERTION_FAILED, "not the expected value")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"password": "hunter2"}, "refused: access denied (1045), while signing in"),
        ({"username": "nobody"}, "refused: access denied (1045), while signing in"),
        ({"database": "none"}, "refused: dbaccess denied (1044), while signing in"),
        ({"query": "select * from hunter2"}, "refused: no such table (1146), while asking"),
        ({"query": "selec 1"}, "refused: parse (1064), while asking"),
        ({"query": "select 1; select 2"}, "refused: parse (1064), while asking"),
        ({"query": "insert into t values (1)"}, "refused: a read-only transaction (1792), while asking"),
    ],
)
async def test_a_refusal_is_told_by_its_code_only(mariadb: Mariadb, options: dict[str, Any], message: str) -> None:
    found = await ask(mariadb, **options)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.CONNECTION_ERROR, message)


@pytest.mark.parametrize("sort", BAD_CERTIFICATES)
async def test_tls_with_a_bad_certificate(mariadb: Mariadb, sort: str) -> None:
    certificate, words = bad(sort)
    with mariadb.presenting(certificate):
        found = await ask(mariadb, host="localhost", tls="verify")
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.TLS_ERROR, words)
        assert (await ask(mariadb, host="localhost", tls="require")).outcome is Outcome.HEALTHY


async def test_tls_that_is_required_and_not_offered_is_a_tls_error() -> None:
    async with service(babbling(len(PLAIN_GREETING).to_bytes(3, "little") + b"\0" + PLAIN_GREETING)) as port:
        found = await check("mysql", f"mysql://127.0.0.1:{port}", tls="require")
    assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, "the server offers no TLS, while securing the connection")


async def test_a_password_is_not_given_in_clear() -> None:
    """A server may ask for it; aiomysql would send it. Seen red without the refusal."""
    ask_for_it = b"\xfemysql_clear_password\0"
    heard = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(len(PLAIN_GREETING).to_bytes(3, "little") + b"\0" + PLAIN_GREETING)
        heard.extend(await reader.read(1000))
        writer.write(len(ask_for_it).to_bytes(3, "little") + b"\x02" + ask_for_it)
        heard.extend(await reader.read(1000))

    async with service(answer) as port:
        found = await check("mysql", f"mysql://127.0.0.1:{port}", password="hunter2")
    assert found.error_message == "asked for the password in clear, while signing in"
    assert b"hunter2" not in heard


async def test_a_server_that_refuses_to_greet_is_heard() -> None:
    said = b"\xff" + (1040).to_bytes(2, "little") + b"#08004Too many connections of 4711"
    async with service(babbling(len(said).to_bytes(3, "little") + b"\0" + said)) as port:
        found = await check("mysql", f"mysql://127.0.0.1:{port}", tls="verify")
    assert found.error_message == "refused: con count (1040), while signing in"


async def test_a_stalled_link_times_out_in_its_phase(mariadb: Mariadb) -> None:
    async with running_proxy(f"mysql://127.0.0.1:{mariadb.port}") as proxy:
        proxy.stall()
        found = await ask(mariadb, port=proxy.port, timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, "not done within 300 ms, while waiting for the greeting")


async def test_a_slow_query_times_out_and_does_not_go_on(mariadb: Mariadb) -> None:
    """Seen red without max_statement_time: the server counted on for minutes."""
    found = await ask(mariadb, query="select benchmark(100000000000, md5('x')) as abandoned", timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, "not done within 300 ms, while asking")
    async with aiomysql.connect(host="127.0.0.1", port=mariadb.port, user=mariadb.user, password=mariadb.password) as conn:

        async def given_up() -> bool:
            cursor = await conn.cursor()
            await cursor.execute("select count(*) from information_schema.processlist where info like '%as abandoned'")
            return bool((await cursor.fetchone())[0] == 0)

        await until(given_up, within_s=5, what="the end of the abandoned query")


async def test_a_huge_answer_is_cut_off(mariadb: Mariadb) -> None:
    found = await ask(mariadb, query="select repeat('x', 12000000)")
    assert (found.error_type, found.error_message) == (ErrorType.CONNECTION_ERROR, "answer longer than 4 MiB, while asking")


@pytest.mark.parametrize(("url", "flaws"), [("mysql://h", 0), ("mysql://h/a", 0), ("mysql://h/a/b", 1), ("mysql://h/a?x=1", 1)])
def test_an_address_names_one_database_at_most(url: str, flaws: int) -> None:
    kind = KINDS["mysql"]
    assert kind.flaws is not None
    assert len(kind.flaws(url, kind.read({})[0])) == flaws
