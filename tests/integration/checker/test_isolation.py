"""Is it me? Real sockets: services and canaries that vanish and come back, together or alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import certifi
import pytest
from pydantic import ValidationError

from services.checker.domain.hosts import HostRules
from services.checker.domain.known import Known
from services.checker.domain.target import Measurement, Target, failed, not_looked
from services.checker.isolation import Isolation, canary_targets, watching
from services.checker.probes import KINDS, PROBES
from services.checker.probes.engine import open_engine
from services.checker.probes.tools import Tools
from services.checker.scheduler import Check, Scheduler
from services.checker.settings import CheckerSettings
from shared.clock import utc_now
from shared.contracts.checks import CheckerIsolatedV1, CheckerRecoveredV1
from shared.contracts.codes import ErrorType, Outcome
from shared.contracts.envelope import Event
from shared.health import Health
from shared.runtime import background
from tests.product import free_port
from tests.waiting import until

SETTINGS = {"database_url": "postgresql://unused", "broker_url": "amqp://unused"}


@dataclass(slots=True)
class Door:
    """A port that answers HTTP, or refuses; `asked` says when somebody came."""

    port: int = field(default_factory=free_port)
    asked: list[float] = field(default_factory=list)
    server: asyncio.Server | None = None

    async def open(self) -> None:
        self.server = await asyncio.start_server(self.answer, "127.0.0.1", self.port)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(time.monotonic())
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a tcp check says nothing
        finally:
            writer.close()

    def shut(self) -> None:
        if self.server is not None:
            self.server.close()


@dataclass(slots=True)
class Rig:
    """A scheduler that checks `service` over tcp five times a second, and what came of it."""

    service: Door = field(default_factory=Door)
    canaries: tuple[Door, Door] = field(default_factory=lambda: (Door(), Door()))
    delivered: list[tuple[float, Check]] = field(default_factory=list)
    said: list[Event[Any]] = field(default_factory=list)
    health: Health = field(default_factory=lambda: Health("test"))

    def outcomes(self, since: float = 0.0) -> list[Outcome]:
        return [check.measurement.outcome for at, check in self.delivered if at >= since]

    async def finds(self, outcome: Outcome, *, since: float = 0.0, number: int = 3) -> None:
        async def found() -> bool:
            return self.outcomes(since).count(outcome) >= number

        await until(found, within_s=10, what=f"{number} times {outcome}")


def addresses(rig: Rig) -> tuple[str, ...]:
    return (f"tcp://127.0.0.1:{rig.canaries[0].port}", f"http://127.0.0.1:{rig.canaries[1].port}/")


@asynccontextmanager
async def running(canaries: Callable[[Rig], tuple[str, ...]] = addresses) -> AsyncIterator[Rig]:
    rig = Rig()
    for door in (rig.service, *rig.canaries):
        await door.open()
    settings = CheckerSettings.model_validate({**SETTINGS, "canaries": ",".join(canaries(rig))})
    rules = settings.host_rules
    async with open_engine(rules=rules, ca_file=certifi.where(), most=50, on_failure=rig.health.fail) as engine:
        tools = Tools(engine, rules, certifi.where(), known=Known())

        async def probe(target: Target) -> Measurement:
            return await PROBES[target.kind](target, tools)

        isolation = Isolation(
            canary_targets(settings.canaries, KINDS),
            probe=probe,
            say=rig.said.append,
            clock=utc_now,
            health=rig.health,
            checker="c",
            region="r",
        )

        def deliver(check: Check) -> None:
            rig.delivered.append((time.monotonic(), check))

        scheduler = Scheduler(region="r", probe=probe, deliver=deliver, clock=utc_now, settle=isolation.settle)
        options, _flaws = KINDS["tcp"].read({})
        scheduler.apply([Target("one", "tcp", f"tcp://127.0.0.1:{rig.service.port}", 200, 180, options, 0, 1)], ())
        async with watching(isolation, rig.health), background(rig.health, "scheduler", scheduler.run):
            yield rig
        await scheduler.drain(1)
    for door in (rig.service, *rig.canaries):
        door.shut()


async def test_a_service_that_vanishes_alone_is_told_after_a_look() -> None:
    """Seen red with failures told without a look: no canary was asked after the service had gone."""
    async with running() as rig:
        await rig.finds(Outcome.HEALTHY)
        gone = time.monotonic()
        rig.service.shut()
        await rig.finds(Outcome.FAILED, since=gone, number=1)
        told = next(at for at, check in rig.delivered if at >= gone and check.measurement.outcome is Outcome.FAILED)
        asked = [at for door in rig.canaries for at in door.asked]
        assert any(gone <= at <= told for at in asked)
        await rig.finds(Outcome.FAILED, since=gone, number=8)
        looks = [at for at in rig.canaries[0].asked if at >= gone]
        assert all(later - earlier > 0.9 for earlier, later in pairwise(looks))  # shared, and a second apart
    assert rig.said == []
    assert "connectivity" not in await rig.health.reasons()


async def test_what_vanishes_together_with_the_canaries_is_never_told_as_failed() -> None:
    """Seen red with results that were healthy told while isolated, and with a look that began before the check."""
    async with running() as rig:
        await rig.finds(Outcome.HEALTHY)
        gone = time.monotonic()
        for door in (*rig.canaries, rig.service):
            door.shut()
        await rig.finds(Outcome.UNKNOWN, since=gone)
        assert {check.measurement.error_message for at, check in rig.delivered if check.measurement.outcome is Outcome.UNKNOWN} <= {
            "not checked: this checker is isolated",
            "not checked: the slot was missed",
        }
        reason = (await rig.health.reasons())["connectivity"]
        assert reason.startswith("isolated since")
        assert "connection refused, while connecting" in reason
        await rig.service.open()
        back = time.monotonic()
        await rig.finds(Outcome.UNKNOWN, since=back)  # whatever it finds while isolated
        await rig.canaries[1].open()  # one of them is enough
        await rig.finds(Outcome.HEALTHY, since=back)
        assert "connectivity" not in await rig.health.reasons()
    assert Outcome.FAILED not in rig.outcomes()
    assert [event.type for event in rig.said] == [CheckerIsolatedV1.TYPE, CheckerRecoveredV1.TYPE]
    isolated, recovered = rig.said[0].data, rig.said[1].data
    assert (isolated.checker, isolated.region, isolated.canaries) == ("c", "r", addresses(rig))
    assert isolated.since == recovered.since < recovered.recovered_at


async def test_it_says_so_although_nothing_fails_and_no_service_is_checked() -> None:
    """Seen red without the loop that looks by itself."""
    rig, health = Rig(), Health("test")
    options, _flaws = KINDS["tcp"].read({})

    async def nothing_there(_target: Target) -> Measurement:
        return not_looked("nothing there")

    canary = Target("canary", "tcp", "tcp://127.0.0.1:1", 1000, 1000, options, 0, 0)
    isolation = Isolation([canary], probe=nothing_there, say=rig.said.append, clock=utc_now, health=health, checker="c", region="r")
    async with watching(isolation, health):
        await until(lambda: told(rig), within_s=5, what="the event")
    assert "nothing there" in (await health.reasons())["connectivity"]


async def test_what_began_while_isolated_is_not_told_as_failed_though_the_canaries_answer_again() -> None:
    """Seen red without the moment of recovery."""
    rig, health, loop = Rig(), Health("test"), asyncio.get_running_loop()
    options, _flaws = KINDS["tcp"].read({})
    answer = failed(ErrorType.CONNECTION_ERROR, "connection refused, while connecting")

    async def asked(_target: Target) -> Measurement:
        return answer

    canary = Target("canary", "tcp", "tcp://127.0.0.1:1", 1000, 1000, options, 0, 0)
    isolation = Isolation([canary], probe=asked, say=rig.said.append, clock=utc_now, health=health, checker="c", region="r")
    lost = answer
    assert not await isolation.look(since_s=loop.time())
    began = loop.time()
    answer = Measurement(Outcome.HEALTHY)
    assert await isolation.look(since_s=began)
    assert (await isolation.settle(lost, began)).outcome is Outcome.UNKNOWN
    assert (await isolation.settle(answer, began)).outcome is Outcome.HEALTHY
    assert (await isolation.settle(lost, loop.time())).outcome is Outcome.FAILED
    await isolation.close()


async def told(rig: Rig) -> bool:
    return bool(rig.said)


async def test_without_canaries_a_failure_counts_at_once() -> None:
    async with running(lambda _: ()) as rig:
        rig.service.shut()
        await rig.finds(Outcome.FAILED)
    assert not rig.said
    assert not any(door.asked for door in rig.canaries)


@pytest.mark.parametrize(
    ("canary", "reason"),
    [
        ("tcp://169.254.169.254:80", "is link-local, where clouds keep their metadata"),
        ("http://10.1.2.3/", "is in a denied network"),
        ("ftp://example.com", "is no tcp://host:port, http:// or https:// address"),
        ("tcp://example.com", "is no tcp://host:port, http:// or https:// address"),
        ("https://user:secret@example.com", "must hold no user name or password"),
    ],
)
def test_a_canary_that_is_none_or_forbidden_is_refused_at_the_start(canary: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CheckerSettings.model_validate({**SETTINGS, "canaries": f"tcp://127.0.0.1:80, {canary}", "denied_networks": "10.0.0.0/8"})
    assert f"SLA_CANARIES: {canary}" in str(refused.value)
    assert reason in str(refused.value)
    assert HostRules().refusal("127.0.0.1") is None
