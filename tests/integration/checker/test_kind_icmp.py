"""ICMP checks of loopback, which answers always, and of what the machine cannot do.

Loss is made by a socket that forgets what it should send: the kernel loses nothing on loopback.
"""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import uvloop
from icmplib import ICMPv4Socket, SocketPermissionError  # type: ignore[import-untyped]  # no type information

from services.checker.domain.hosts import HostRules
from services.checker.probes import KINDS, icmp
from services.checker.probes.icmp import NOT_PERMITTED
from shared.contracts.codes import ErrorType, Outcome
from tests.watched import NEVER_A_NAME, check


def permitted() -> bool:
    for privileged in (False, True):
        try:
            ICMPv4Socket(privileged=privileged).close()
        except SocketPermissionError:
            continue
        return True
    return False


needs_icmp = pytest.mark.skipif(not permitted(), reason="this kernel lets this user send no ICMP (net.ipv4.ping_group_range, CAP_NET_RAW)")


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Give a function that has the packets with some sequence numbers lost."""
    send = ICMPv4Socket.send

    def lose(numbers: set[int]) -> None:
        def maybe(self: Any, request: Any) -> None:  # noqa: ANN401  # icmplib's
            if request.sequence not in numbers:
                send(self, request)

        monkeypatch.setattr(ICMPv4Socket, "send", maybe)

    return lose


@needs_icmp
async def test_loopback_answers() -> None:
    found = await check("icmp", "icmp://localhost", packets=3, interval_ms=10, size=1000)
    assert (found.outcome, found.error_message) == (Outcome.HEALTHY, None)
    trips = found.facts.values["round_trip"]
    assert found.facts.values["loss"] == 0
    assert 0 < trips["min"] <= trips["avg"] <= trips["max"] < 1000
    assert (found.response_time_ms, found.details["loss"]) == (trips["avg"], 0)


@needs_icmp
@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
async def test_loopback_answers_by_ipv6() -> None:
    found = await check("icmp", "icmp://[::1]", packets=2, interval_ms=10)
    assert (found.outcome, found.facts.values.get("loss")) == (Outcome.HEALTHY, 0)


@needs_icmp
async def test_some_loss_is_healthy_and_told(forgetful: Callable[[set[int]], None]) -> None:
    """Seen red without comparing the identifier, where sockets are raw."""
    forgetful({2, 3})
    found = await check("icmp", "icmp://127.0.0.1", packets=3, interval_ms=10, timeout_ms=300)
    assert (found.outcome, found.facts.values["loss"], found.details["loss"]) == (Outcome.HEALTHY, 66.7, 66.7)


@needs_icmp
async def test_no_answer_at_all_is_a_timeout(forgetful: Callable[[set[int]], None]) -> None:
    forgetful(set(range(100)))
    began = asyncio.get_running_loop().time()
    found = await check("icmp", "icmp://127.0.0.1", packets=20, interval_ms=100, timeout_ms=300)
    assert asyncio.get_running_loop().time() - began < 1
    assert (found.outcome, found.error_type) == (Outcome.FAILED, ErrorType.TIMEOUT)
    assert found.error_message == "not done within 300 ms, while waiting for the answer"


@needs_icmp
async def test_checks_at_once_do_not_take_each_others_answers(forgetful: Callable[[set[int]], None]) -> None:
    """Seen red with one answer taken for all that were sent."""
    forgetful({1})
    held = [asyncio.create_task(check("icmp", "icmp://127.0.0.1", packets=1, timeout_ms=300)) for _ in range(5)]
    answered = [asyncio.create_task(check("icmp", "icmp://127.0.0.1", packets=2, interval_ms=10, timeout_ms=300)) for _ in range(20)]
    assert {one.outcome for one in await asyncio.gather(*held)} == {Outcome.FAILED}
    assert {one.facts.values["loss"] for one in await asyncio.gather(*answered)} == {50.0}


async def test_without_permission_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with the error left to itself."""

    def refuse(*_arguments: object, privileged: bool) -> None:
        raise SocketPermissionError(privileged)

    monkeypatch.setattr(icmp, "ICMPv4Socket", refuse)
    found = await check("icmp", "icmp://127.0.0.1")
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, f"not checked: {NOT_PERMITTED}")


async def test_an_unprivileged_socket_is_taken_before_a_raw_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def note(*_arguments: object, privileged: bool) -> None:
        tried.append(privileged)
        raise SocketPermissionError(privileged)

    monkeypatch.setattr(icmp, "ICMPv4Socket", note)
    await check("icmp", "icmp://127.0.0.1")
    assert tried == [False, True]


async def test_a_want_of_descriptors_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_more: object) -> None:
        raise OSError(24, "")

    monkeypatch.setattr(socket, "socket", refuse)
    found = await check("icmp", "icmp://127.0.0.1")
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: this checker has no file descriptor left")


async def test_unresolvable_and_forbidden() -> None:
    found = await check("icmp", f"icmp://{NEVER_A_NAME}")
    assert (found.error_type, found.error_message) == (ErrorType.DNS_ERROR, "name not found")
    for host in ("127.0.0.1", "localhost"):
        found = await check("icmp", f"icmp://{host}", rules=HostRules(denied=(ip_network("127.0.0.0/8"), ip_network("::/0"))))
        assert found.outcome is Outcome.UNKNOWN
        assert "denied network" in (found.error_message or "")


def test_an_address_has_no_port_and_no_path() -> None:
    flaws = KINDS["icmp"].flaws
    assert flaws is not None
    options = KINDS["icmp"].read({})[0]
    for url in ("icmp://host:7", "icmp://host/path", "icmp://host?x"):
        assert [flaw.field for flaw in flaws(url, options)] == ["endpoint_url"]
    assert flaws("icmp://host", options) == []


@needs_icmp
def test_on_the_loop_that_checkers_run_on() -> None:
    """It has a way of its own with sockets."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_loopback_answers())
        found = runner.run(check("icmp", "icmp://127.0.0.1", packets=20, interval_ms=100, timeout_ms=250))
        assert found.facts.values["loss"] == 0
