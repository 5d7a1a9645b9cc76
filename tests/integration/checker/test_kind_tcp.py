"""TCP checks that say something and expect an answer, against servers that answer well, badly and never."""

import asyncio
import contextlib
import socket
from ipaddress import ip_network

import pytest
import uvloop

from services.checker.domain.hosts import HostRules
from services.checker.probes import KINDS
from services.checker.probes.expect import MAX_ANSWER_BYTES
from shared.contracts.codes import ErrorType, Outcome
from tests.watched import NEVER_A_NAME, Answer, check, closing, resetting, saying, service, silent


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"you said: " + await reader.read(1000))


async def test_what_is_said_is_answered_as_expected() -> None:
    async with service(echo) as port:
        found = await check(
            "tcp", f"tcp://127.0.0.1:{port}", send=r"PING\r\n\x00", expect="PING\r\n\x00", expect_pattern="^you said: [A-Z]+"
        )
    assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
    assert found.facts.values == {"message": "you said: PING\r\n\x00"}
    assert found.times.first_byte_ms is not None


async def test_an_answer_that_comes_in_pieces_is_put_together() -> None:
    """Seen red with each piece looked at alone."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (b"2", b"2", b"0 ready"):
            writer.write(piece)
            await asyncio.sleep(0.03)  # the premise: longer than a piece takes to arrive alone

    async with service(answer) as port:
        found = await check("tcp", f"tcp://127.0.0.1:{port}", expect="220 ready")
    assert (found.outcome, found.facts.body) == (Outcome.HEALTHY, b"220 ready")


async def test_something_may_be_said_without_waiting_for_an_answer() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def hear(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.read(100))

    async with service(hear) as port:
        assert (await check("tcp", f"tcp://127.0.0.1:{port}", send="hello")).outcome is Outcome.HEALTHY
        async with asyncio.timeout(5):
            assert await heard == b"hello"


async def test_another_answer_than_expected_fails_and_is_kept_as_evidence() -> None:
    async with service(saying(b"no", b"", pause_s=60)) as port:
        found = await check("tcp", f"tcp://127.0.0.1:{port}", expect="yes", timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, "not done within 300 ms, while reading the answer")
    assert found.facts.body == b"no"


async def test_an_answer_that_ends_otherwise_than_expected_fails_at_once() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"no")
        writer.write_eof()

    async with service(answer) as port:
        found = await check("tcp", f"tcp://127.0.0.1:{port}", expect_pattern="^yes$")
    assert (found.error_type, found.error_message) == (ErrorType.ASSERTION_FAILED, "the answer is not what was expected")
    assert (found.facts.body, found.outcome) == (b"no", Outcome.FAILED)


async def test_only_so_much_of_an_endless_answer_is_read() -> None:
    """Seen red without the limit: the check ended by its timeout."""
    async with service(saying(b"", b"x" * 10_000)) as port:
        found = await check("tcp", f"tcp://127.0.0.1:{port}", expect="y", timeout_ms=10_000)
    assert found.error_message == "the answer is not what was expected"
    assert (len(found.facts.body), found.facts.truncated) == (MAX_ANSWER_BYTES, True)


async def test_a_drip_does_not_keep_a_check_alive() -> None:
    async with service(saying(b"", b"x", pause_s=0.02)) as port:
        found = await check("tcp", f"tcp://127.0.0.1:{port}", expect="y", timeout_ms=300)
    assert found.error_message == "not done within 300 ms, while reading the answer"


@pytest.mark.parametrize(
    ("answer", "error_type", "message"),
    [
        (silent, ErrorType.TIMEOUT, "not done within 300 ms, while waiting for the answer"),
        (closing, ErrorType.CONNECTION_ERROR, "connection closed without an answer, while waiting for the answer"),
        (resetting, ErrorType.CONNECTION_ERROR, "connection reset, while waiting for the answer"),
    ],
)
async def test_no_answer(answer: Answer, error_type: ErrorType, message: str) -> None:
    async with service(answer) as port:
        found = await check("tcp", f"tcp://127.0.0.1:{port}", expect="", timeout_ms=300)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, error_type, message)


async def test_a_host_that_takes_no_connection_times_out_while_connecting() -> None:
    """A full queue of a server that accepts nobody: further connections are not answered."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        found = await check("tcp", f"tcp://127.0.0.1:{port}", expect="x", timeout_ms=300)
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, "not done within 300 ms, while connecting")


async def test_a_port_that_nobody_listens_on_refuses() -> None:
    async with service(silent) as port:
        pass
    found = await check("tcp", f"tcp://127.0.0.1:{port}", expect="x")
    assert (found.error_type, found.error_message) == (ErrorType.CONNECTION_ERROR, "connection refused, while connecting")


async def test_unresolvable_and_forbidden() -> None:
    found = await check("tcp", f"tcp://{NEVER_A_NAME}:1", expect="x")
    assert (found.error_type, found.error_message) == (ErrorType.DNS_ERROR, "name not found")
    found = await check("tcp", "tcp://localhost:1", rules=HostRules(denied=(ip_network("127.0.0.0/8"), ip_network("::/0"))), send="x")
    assert found.outcome is Outcome.UNKNOWN


def test_what_cannot_be_sent_or_matched_is_a_flaw() -> None:
    options, flaws = KINDS["tcp"].read({"send": r"\q", "expect_pattern": "("})
    assert options is None
    assert [flaw.field for flaw in flaws] == ["options.send", "options.expect_pattern"]


def test_on_the_loop_that_checkers_run_on() -> None:
    """It has a way of its own with sockets."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for test in (
            test_what_is_said_is_answered_as_expected(),
            test_only_so_much_of_an_endless_answer_is_read(),
            test_no_answer(silent, ErrorType.TIMEOUT, "not done within 300 ms, while waiting for the answer"),
            test_no_answer(resetting, ErrorType.CONNECTION_ERROR, "connection reset, while waiting for the answer"),
        ):
            runner.run(test)
