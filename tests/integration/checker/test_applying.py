"""Definitions as code, in a real database: a set is applied whole or not at all, once, and says what it did."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.checker import usecases
from services.checker.domain.hosts import HostRules
from shared.contracts.commands import Plan, PlannedAction, ServiceDraft, ServicePatch, ServiceRef, ServiceSet
from shared.contracts.registry import decode
from shared.database import Pool, open_pool, transaction
from shared.health import Health
from shared.rpc import Refused
from tests.servers import Database

RULES = HostRules()
MANY = 10_000


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as opened:
        yield opened


def one(service_id: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
    return {"id": service_id, "name": service_id, "endpoint_url": "https://api.example.com/"} | fields


async def apply(pool: Pool, *definitions: dict[str, Any], prune: bool = False, dry_run: bool = False) -> Plan:
    async with transaction(pool) as conn:
        wanted = ServiceSet(definitions=definitions, prune=prune, dry_run=dry_run, actor="admin")
        return await usecases.apply(conn, wanted, rules=RULES)


async def refusal(pool: Pool, *definitions: dict[str, Any]) -> tuple[int, dict[str, str]]:
    with pytest.raises(Refused) as refused:
        await apply(pool, *definitions)
    return refused.value.problem.status, {error.field: error.reason for error in refused.value.problem.errors}


def actions(plan: Plan) -> dict[str, PlannedAction]:
    return {change.id: change.action for change in plan.changes}


async def said(pool: Pool) -> list[tuple[str, str, int]]:
    rows = await pool.fetch("select type, body from outbox order by position")
    events = [decode(row["type"], row["body"].encode()) for row in rows]
    return [(event.type, event.subject, event.data.service.version) for event in events]


async def names(pool: Pool) -> dict[str, str]:
    return {row["id"]: row["name"] for row in await pool.fetch("select id, name from services where removed_at is null order by id")}


async def test_a_set_creates_changes_removes_and_repeats_nothing(pool: Pool) -> None:
    first = await apply(pool, one("a"), one("b", timeout=4000), one("c"))
    assert actions(first) == dict.fromkeys("abc", PlannedAction.CREATE)
    assert first.applied
    made = next(change for change in first.changes if change.id == "b")
    assert {field.field: field.after for field in made.fields} == {
        "name": "b",
        "display_name": "b",
        "endpoint_url": "https://api.example.com/",
        "timeout": 4000,
    }
    again = await apply(pool, one("c"), one("b", timeout=4000), one("a"), prune=True)
    assert actions(again) == dict.fromkeys("abc", PlannedAction.UNCHANGED)
    changed = await apply(pool, one("b", options={"method": "HEAD"}), one("d"), prune=True)
    assert actions(changed) == {
        "a": PlannedAction.REMOVE,
        "b": PlannedAction.CHANGE,
        "c": PlannedAction.REMOVE,
        "d": PlannedAction.CREATE,
    }
    told = next(change for change in changed.changes if change.id == "b")
    # What a definition leaves out has its default again.
    assert [(field.field, field.before, field.after) for field in told.fields] == [
        ("timeout", 4000, 5000),
        ("options.method", None, "HEAD"),
    ]
    assert await said(pool) == [
        ("service.registered.v1", "a", 1),
        ("service.registered.v1", "b", 1),
        ("service.registered.v1", "c", 1),
        ("service.removed.v1", "a", 2),
        ("service.removed.v1", "c", 2),
        ("service.updated.v1", "b", 2),
        ("service.registered.v1", "d", 1),
    ]
    assert sorted(await names(pool)) == ["b", "d"]


async def test_without_prune_what_is_not_named_stays(pool: Pool) -> None:
    await apply(pool, one("a"), one("b"))
    assert actions(await apply(pool, one("b"))) == {"b": PlannedAction.UNCHANGED}
    assert sorted(await names(pool)) == ["a", "b"]


async def test_a_dry_run_says_the_same_and_does_nothing(pool: Pool) -> None:
    await apply(pool, one("a"), one("b"))
    tried = await apply(pool, one("a", timeout=4000), one("c"), prune=True, dry_run=True)
    assert not tried.applied
    assert sorted(await names(pool)) == ["a", "b"]
    assert len(await said(pool)) == 2
    done = await apply(pool, one("a", timeout=4000), one("c"), prune=True)
    assert done.changes == tried.changes


async def test_one_revision_serves_all_that_is_applied_and_none_what_is_not(pool: Pool) -> None:
    await apply(pool, *(one(f"s-{number}") for number in range(50)))
    await apply(pool, *(one(f"s-{number}") for number in range(50)))
    assert await pool.fetchval("select revision from definitions_revision") == 1
    assert await pool.fetchval("select count(distinct revision) from services") == 1


async def test_what_cannot_work_is_named_by_place_and_nothing_is_applied(pool: Pool) -> None:
    """Seen red with the accepted ones saved before the flaws were looked at."""
    status, errors = await refusal(
        pool, one("a"), one("b", options={"method": "get"}), one("a", name="other"), {"id": 7}, one("c", kind="smoke")
    )
    assert status == 422
    assert set(errors) == {
        "definitions.1.options.method",
        "definitions.2.id",
        "definitions.3.id",
        "definitions.3.name",
        "definitions.3.endpoint_url",
        "definitions.4.kind",
    }
    assert errors["definitions.2.id"] == "is the id of definitions.0 already"
    assert await names(pool) == {}
    assert await said(pool) == []


async def test_names_are_taken_within_a_set_and_by_who_stays(pool: Pool) -> None:
    await apply(pool, one("stays", name="Taken"))
    assert await refusal(pool, one("a", name="Taken")) == (409, {"definitions.0.name": "is the name of stays too"})
    assert await refusal(pool, one("a", name="X"), one("b", name="X")) == (409, {"definitions.1.name": "is the name of a too"})
    assert actions(await apply(pool, one("a", name="Taken"), prune=True)) == {"a": PlannedAction.CREATE, "stays": PlannedAction.REMOVE}


async def test_names_may_be_swapped_and_passed_on(pool: Pool) -> None:
    """Seen red without `free_names`: the unique index refused the first of the pair."""
    await apply(pool, one("a", name="A"), one("b", name="B"), one("c", name="C"))
    plan = await apply(pool, one("a", name="B"), one("b", name="A"), one("d", name="C"), one("c", name="D"))
    assert [change.action for change in plan.changes].count(PlannedAction.CHANGE) == 3
    assert await names(pool) == {"a": "B", "b": "A", "c": "D", "d": "C"}


async def test_what_was_removed_comes_back_with_the_next_version(pool: Pool) -> None:
    await apply(pool, one("a"))
    await apply(pool, prune=True)
    await apply(pool, one("a"))
    assert [version for _type, _subject, version in await said(pool)] == [1, 2, 3]


async def test_what_is_listed_can_be_applied_and_changes_nothing(pool: Pool) -> None:
    """What is exported is a set of definitions. Seen red with assertions stored as they were written, without their defaults."""
    kinds = [
        one("http", options={"expected_codes": [200, "3xx"]}, assertions=[{"source": "code", "comparison": "equals", "target": 200}]),
        one(
            "tcp",
            kind="tcp",
            endpoint_url="tcp://127.0.0.1:1",
            regions=["eu", "kr"],
            quorum="2",
            depends_on=["http"],
            metadata={"team": ["a", {"b": 1.5}]},
        ),
        one("slow", degraded_after_ms=100, retry_interval_ms=2000, is_active=False, display_name_ko="느림", description="two\nlines"),
    ]
    await apply(pool, *kinds)
    async with pool.acquire() as conn:
        listed = (await usecases.list_services(conn)).model_dump(mode="json")["services"]
    exported = [{name: value for name, value in each.items() if name not in {"created_at", "updated_at", "version"}} for each in listed]
    assert set(actions(await apply(pool, *exported)).values()) == {PlannedAction.UNCHANGED}


async def test_a_service_stands_on_what_exists_and_never_on_itself(pool: Pool) -> None:
    """Seen red with circles not looked for, with the present services left out of the graph, and with `prune` not looked at."""
    await apply(pool, one("page", depends_on=["api"]), one("api", depends_on=["database"]), one("database"))
    assert await refusal(pool, one("new", depends_on=["cache", "api"])) == (
        422,
        {"definitions.0.depends_on": "there is no service 'cache'"},
    )
    assert await refusal(pool, one("other"), one("database", depends_on=["page"])) == (
        422,
        {"definitions.1.depends_on": "leads back to the service itself: database → page → api → database"},
    )
    with pytest.raises(Refused, match="1 fields cannot be accepted"):
        await apply(pool, one("page", depends_on=["api"]), prune=True)

    async def by_hand(service_id: str, *depends_on: str) -> str | None:
        async with transaction(pool) as conn:
            changes = {"depends_on": list(depends_on), "description": "as it was"}
            try:
                await usecases.change(conn, ServicePatch(id=service_id, changes=changes, actor="admin"), rules=RULES)
            except Refused as refused:
                return refused.problem.errors[0].reason
        return None

    assert await by_hand("database", "page") == "leads back to the service itself: database → page → api → database"
    assert await by_hand("database", "nobody") == "there is no service 'nobody'"
    async with transaction(pool) as conn:
        await usecases.remove(conn, ServiceRef(id="database", actor="admin"))
    assert await by_hand("api", "database") is None, "what it stood on is gone: the change is of something else"
    draft = ServiceDraft(definition=one("cache", depends_on=["database"]), actor="admin")
    async with pool.acquire() as conn:
        with pytest.raises(Refused, match="cannot work"):
            await usecases.create(conn, draft, rules=RULES)


def group(service_id: str, *members: str) -> dict[str, Any]:
    return one(service_id, kind="group", endpoint_url=f"group://a-name-of-{service_id}", options={"members": list(members)})


async def test_a_group_is_never_its_own_member(pool: Pool) -> None:
    """Seen red with circles of groups not looked for when one is created, changed or applied, and with a kind that changed left in."""
    around = "leads back to the service itself: inner → outer → inner"
    assert await refusal(pool, group("all", "api", "all")) == (
        422,
        {"definitions.0.options.members": "leads back to the service itself: all → all"},
    )
    assert await refusal(pool, one("api"), group("inner", "outer"), group("outer", "inner")) == (
        422,
        {"definitions.1.options.members": around},
    )
    await apply(pool, one("api"), group("inner", "api", "nobody"), group("outer", "inner", "api"))
    assert await refusal(pool, group("inner", "outer")) == (422, {"definitions.0.options.members": around})
    patch = ServicePatch(id="inner", changes={"options": {"members": ["outer"]}}, actor="admin")
    with pytest.raises(Refused) as changed:
        async with transaction(pool) as conn:
            await usecases.change(conn, patch, rules=RULES)
    assert [(error.field, error.reason) for error in changed.value.problem.errors] == [("options.members", around)]
    with pytest.raises(Refused) as created:
        async with transaction(pool) as conn:
            await usecases.create(conn, ServiceDraft(definition=group("self", "self"), actor="admin"), rules=RULES)
    assert [error.field for error in created.value.problem.errors] == ["options.members"]
    await apply(pool, one("outer"), group("inner", "outer"))  # no group any more


async def test_creating_one_takes_its_turn_with_a_set(pool: Pool) -> None:
    async with transaction(pool) as conn:
        await usecases.create(conn, ServiceDraft(definition=one("a"), actor="admin"), rules=RULES)
    assert actions(await apply(pool, one("a"), one("b"))) == {"a": PlannedAction.UNCHANGED, "b": PlannedAction.CREATE}


async def test_ten_thousand_definitions(pool: Pool) -> None:
    """The bounds are ten times what was measured on two busy cores; what must not come back is a statement per definition."""
    wanted = [
        one(
            f"service-{number}",
            endpoint_url=f"https://api-{number}.example.com/health",
            options={"method": "GET", "expected_codes": [200, "3xx"]},
            assertions=[{"source": "code", "comparison": "equals", "target": 200}],
            metadata={"team": f"team-{number % 40}"},
        )
        for number in range(MANY)
    ]
    for action, most_s in ((PlannedAction.CREATE, 20.0), (PlannedAction.UNCHANGED, 12.0)):
        began = time.perf_counter()
        plan = await apply(pool, *wanted)
        took_s = time.perf_counter() - began
        print(f"{MANY} definitions, {action}: {took_s:.2f} s")  # noqa: T201  # the measure is what this test is read for
        assert {change.action for change in plan.changes} == {action}
        assert took_s < most_s
    assert await pool.fetchval("select count(*) from outbox") == MANY
