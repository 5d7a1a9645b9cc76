"""Checks that are tried before they are saved: with the real probes, whole, and few at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from services.checker import trials, usecases
from services.checker.domain.hosts import HostRules
from services.checker.domain.known import Known
from services.checker.domain.target import Measurement, Target
from services.checker.drafts import Terms
from services.checker.probes import PROBES
from services.checker.probes.engine import open_engine
from services.checker.probes.tools import Tools, trusted_authorities
from services.checker.secrets import MASK, NO_KEYS
from services.checker.trials import AT_ONCE, Trials, check_once
from shared.clock import utc_now
from shared.contracts.codes import Outcome
from shared.contracts.commands import ServiceDraft, Trial
from shared.database import Pool, open_pool, transaction
from shared.health import Health
from shared.rpc import Refused
from tests.servers import Database
from tests.target import running_target
from tests.waiting import until

RULES = HostRules()


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as opened:
        yield opened


@asynccontextmanager
async def trying(pool: Pool, known: Known | None = None) -> AsyncIterator[Trials]:
    """Give trials with real tools."""
    trusted = trusted_authorities()
    async with open_engine(rules=RULES, ca_file=trusted, most=100, on_failure=pytest.fail) as engine:
        yield Trials(Tools(engine, RULES, trusted, known=known or Known()), Terms(RULES, NO_KEYS), "r", pool)


def draft(**definition: Any) -> ServiceDraft:  # noqa: ANN401  # JSON
    return ServiceDraft(definition=definition, actor="admin")


async def test_a_check_runs_without_any_service() -> None:
    """As `sla-monitor check` does it: nothing but an address is needed."""
    async with running_target() as target:
        asked = [{"source": "body", "comparison": "equals", "target": "ok"}, {"source": "code", "comparison": "less_than", "target": 100}]
        good = await check_once({"endpoint_url": target.url("x")}, rules=RULES)
        bad = await check_once({"endpoint_url": target.url("x"), "assertions": asked}, rules=RULES)
    assert (good.result.outcome, good.result.status_code, good.assertions) == (Outcome.HEALTHY, 200, ())
    assert good.result.phases.total_ms is not None
    assert bad.result.outcome is Outcome.FAILED
    assert [(one.holds, one.found) for one in bad.assertions] == [(True, "ok"), (False, "200")]
    assert Trial.model_validate_json(bad.model_dump_json()).model_dump_json() == bad.model_dump_json()


async def test_what_cannot_work_is_refused_and_what_is_forbidden_is_not_looked_at() -> None:
    with pytest.raises(Refused) as refused:
        await check_once({"endpoint_url": "http://169.254.169.254/", "timeout": 0}, rules=RULES)
    assert {error.field for error in refused.value.problem.errors} == {"endpoint_url", "timeout"}
    with pytest.raises(Refused) as masked:
        await check_once({"endpoint_url": "http://127.0.0.1:1/", "options": {"bearer": MASK}}, rules=RULES)
    assert [error.field for error in masked.value.problem.errors] == ["options.bearer"]
    denied = HostRules(denied=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
    trial = await check_once({"endpoint_url": "http://localhost:1/"}, rules=denied)
    assert trial.result.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "definition",
    [
        {"kind": "push", "endpoint_url": "push://x", "options": {"period_s": 60}},
        {"kind": "group", "endpoint_url": "group://x", "options": {"members": ["a"]}},
    ],
    ids=["push", "group"],
)
async def test_what_only_a_checker_knows_is_unknown_without_one(definition: dict[str, Any]) -> None:
    assert (await check_once(definition, rules=RULES)).result.outcome is Outcome.UNKNOWN


async def test_a_group_is_answered_from_what_is_known(pool: Pool) -> None:
    known = Known(statuses={"a": "o", "b": "o"}, as_of_ms=int(utc_now().timestamp() * 1000))
    async with trying(pool, known) as tried:
        trial = await tried.try_once(draft(kind="group", endpoint_url="group://x", options={"members": ["a", "b"]}))
    assert trial.result.outcome is Outcome.HEALTHY


async def test_only_so_many_are_tried_at_once_and_the_next_is_told(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without the count: whoever tries could fill the queue of all other questions."""
    released, begun = asyncio.Event(), 0

    async def hang(target: Target, tools: Tools) -> Measurement:
        nonlocal begun
        begun += 1
        await released.wait()
        return await PROBES["tcp"](target, tools)

    async def all_begun() -> bool:
        return begun == AT_ONCE

    monkeypatch.setattr(trials, "PROBES", {**PROBES, "http": hang})
    async with trying(pool) as tried:
        wanted = draft(endpoint_url="http://127.0.0.1:1/")
        running = [asyncio.create_task(tried.try_once(wanted)) for _ in range(AT_ONCE)]
        await until(all_begun, within_s=10, what="all trials running")
        with pytest.raises(Refused) as refused:
            await tried.try_once(wanted)
        assert refused.value.problem.status == 429
        released.set()
        assert {trial.result.outcome for trial in await asyncio.gather(*running)} == {Outcome.FAILED}
        assert (await tried.try_once(wanted)).result.outcome is Outcome.FAILED


async def test_a_probe_that_breaks_or_never_ends_is_told_as_unknown(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_target: Target, _tools: Tools) -> Measurement:
        raise KeyError

    async def endless(_target: Target, _tools: Tools) -> Measurement:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(trials, "GRACE_S", 0.0)
    monkeypatch.setattr(trials, "PROBES", {"http": broken, "tcp": endless})
    async with trying(pool) as tried:
        first = await tried.try_once(draft(endpoint_url="http://127.0.0.1:1/"))
        second = await tried.try_once(draft(kind="tcp", endpoint_url="tcp://127.0.0.1:1", timeout=50))
    assert [(one.result.outcome, one.result.error_message) for one in (first, second)] == [
        (Outcome.UNKNOWN, "not checked: defect of the probe (KeyError)"),
        (Outcome.UNKNOWN, "not checked: the probe did not end in time"),
    ]


async def test_a_trial_leaves_nothing_behind(pool: Pool) -> None:
    async with trying(pool) as tried:
        await tried.try_once(draft(id="x", name="X", endpoint_url="http://127.0.0.1:1/"))
    async with transaction(pool) as conn:
        assert (await usecases.list_services(conn)).services == ()
        assert await conn.fetchval("select count(*) from outbox") == 0
