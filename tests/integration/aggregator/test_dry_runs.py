"""Dry runs on a real database: other rules over stored checks, nothing changed, and few at a time.

Seen red with the margin of a dry run left out, and with a dry run by the rules that are.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.aggregator import answers, audits, replays
from services.aggregator.domain.verdict import Observation
from shared.contracts.checks import FailedAssertion
from shared.contracts.codes import AssertionSeverity
from shared.contracts.commands import (
    TIMELINE_DRY_RUN,
)
from shared.contracts.history import DryRunQuery
from shared.database import Pool
from shared.rpc import Refused
from tests.integration.aggregator.audited import SERVICE, dry_run, plain, watched, work
from tests.integration.aggregator.story import START, at, batch, definition, fold, learn, results, see


@pytest.mark.parametrize(
    ("rules", "states"),
    [
        ({}, [("up", 0, 4), ("down", 4, 6), ("up", 6, 10), ("partial", 10, 13), ("up", 13, 20)]),
        ({"failure_threshold": 3}, [("up", 0, 10), ("partial", 10, 13), ("up", 13, 20)]),
        ({"quorum": "all"}, [("up", 0, 4), ("partial", 4, 6), ("up", 6, 10), ("partial", 10, 13), ("up", 13, 20)]),
        ({"quorum": "any"}, [("up", 0, 4), ("down", 4, 6), ("up", 6, 10), ("down", 10, 13), ("up", 13, 20)]),
        ({"failure_threshold": 4}, [("up", 0, 20)]),
        ({"failure_threshold": 4, "degraded_after_ms": 1}, [("degraded", 0, 20)]),
        ({"recovery_threshold": 5}, [("up", 0, 4), ("down", 4, 6), ("partial", 6, 13), ("up", 13, 20)]),
        ({"regions": ("us", "asia")}, [("up", 0, 4), ("partial", 4, 6), ("up", 6, 20)]),
        ({"regions": ("eu",)}, [("up", 0, 4), ("down", 4, 6), ("up", 6, 10), ("down", 10, 13), ("up", 13, 20)]),
        ({"regions": ()}, [("up", 0, 4), ("down", 4, 6), ("up", 6, 10), ("partial", 10, 13), ("up", 13, 20)]),
    ],
)
async def test_a_dry_run_changes_the_rules_and_nothing_else(
    pool: Pool, rules: dict[str, object], states: list[tuple[str, float, float]]
) -> None:
    await watched(pool)
    before = await pool.fetch("select * from timeline order by id")
    found = await dry_run(pool, 0, 20, rules, now=20)
    assert plain(found.would_be) == states
    assert plain(found.was) == [("up", 0, 4), ("down", 4, 6), ("up", 6, 10), ("partial", 10, 13), ("up", 13, 20)]
    assert found.was_uptime_percentage == 85.5
    assert await pool.fetch("select * from timeline order by id") == before
    assert await pool.fetchval("select count(*) from timeline_dirty") == 0


@pytest.mark.parametrize(
    ("regions", "states"),
    [
        (None, [("up", 0, 6)]),
        (("us",), [("up", 0, 2), ("down", 2, 4), ("up", 4, 6)]),
        (("eu", "us"), [("up", 0, 2), ("partial", 2, 4), ("up", 4, 6)]),
        ((), [("up", 0, 2), ("down", 2, 4), ("up", 4, 6)]),
    ],
)
async def test_a_dry_run_counts_regions_that_the_definition_does_not(
    pool: Pool, regions: tuple[str, ...] | None, states: list[tuple[str, float, float]]
) -> None:
    """Seen red with the definition's regions kept, and with those of the query taken for no more than what is read."""
    await learn(pool, definition(regions=("eu",)))
    for region, seen in (("eu", "++++++"), ("us", "++--++"), ("asia", "++--++")):
        await see(pool, seen, region=region)
    await work(pool, 6)
    assert plain((await dry_run(pool, 0, 6, {"regions": regions}, now=6)).would_be) == states


async def test_a_dry_run_judges_slowness_anew_and_keeps_what_was_degraded_for_another_reason(pool: Pool) -> None:
    """Of two stretches that were slow one also broke an assertion, and of a third a status page said so.

    Seen red with what is stored as degraded kept so, with all of it taken for well, and with the message alone looked at.
    """
    await learn(pool, definition())
    found = results("++" + "~" * 4 + "++" + "~" * 4 + "++" + "~" * 4 + "++")
    broken = FailedAssertion(source="json", comparison="equals", severity=AssertionSeverity.DEGRADED, found="x")
    found[8:12] = [one.model_copy(update={"assertions": (broken,)}) for one in found[8:12]]
    found[14:18] = [one.model_copy(update={"error_type": None, "error_message": "slower than usual"}) for one in found[14:18]]
    await fold(pool, batch(found), now=at(20))
    await work(pool, 20)
    told = await dry_run(pool, 0, 20, {"degraded_after_ms": 100_000}, now=20)
    assert [one for one in plain(told.was) if one[0] == "degraded"] == [("degraded", 2, 6), ("degraded", 8, 12), ("degraded", 14, 18)]
    assert [one for one in plain(told.would_be) if one[0] == "degraded"] == [("degraded", 8, 12), ("degraded", 14, 18)]
    slowest = max(one.response_time_ms or 0 for one in found)
    assert plain((await dry_run(pool, 0, 20, {"degraded_after_ms": int(slowest) + 1}, now=20)).would_be) == plain(told.would_be)


async def test_a_dry_run_of_many_checks_lets_others_have_their_turn(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in turns, not in time: each piece ends with one. Seen red with all checks read and computed at once."""
    await learn(pool, definition())
    for start in range(0, 3000, 500):
        await see(pool, "+" * 500, first=start)
    await work(pool, 3000)
    taken: list[int] = []
    go_on = replays.Track.go_on

    def counted(track: replays.Track, seen: Sequence[Observation], *rest: Any, **more: Any) -> None:  # noqa: ANN401  # handed on
        taken.append(len(seen))
        go_on(track, seen, *rest, **more)

    monkeypatch.setattr(replays.Track, "go_on", counted)
    monkeypatch.setattr(replays, "PIECE", 100)
    await dry_run(pool, 0, 3000, {}, now=3000)
    assert (max(taken), sum(taken)) == (100, 3000)


async def test_a_dry_run_that_would_tell_too_much_is_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    await watched(pool)
    monkeypatch.setattr(audits, "MOST_INTERVALS", 5)
    assert len((await dry_run(pool, 0, 20, {}, now=20)).would_be) == 5
    restless = {"failure_threshold": 1, "recovery_threshold": 1, "degraded_after_ms": 80}
    with pytest.raises(Refused) as refused:
        await dry_run(pool, 0, 20, restless, now=20)
    assert "would be more than 5 intervals" in refused.value.problem.errors[0].reason


async def test_a_dry_run_is_what_the_change_would_have_given(pool: Pool) -> None:
    """Hours of two regions, read in several pieces, beside a service that had those rules; any part of it, too."""
    await learn(pool, definition())
    await learn(pool, definition("other").model_copy(update={"failure_threshold": 4, "recovery_threshold": 1, "quorum": "any"}))
    pattern = ("+" * 700 + "---+-" + "----" + "+-" * 40 + "?" * 30 + "~" * 9) * 3
    for service_id in (SERVICE, "other"):
        for region, seen in (("eu", pattern), ("us", pattern[300:] + pattern[:300])):
            for start in range(0, len(seen), 500):
                await see(pool, seen[start : start + 500], first=start, service_id=service_id, region=region)
    end = len(pattern)
    await work(pool, end)
    rules = {"failure_threshold": 4, "recovery_threshold": 1, "quorum": "any"}
    for first, last in ((0, end), (1500, 1720), (704, 706), (800, 850)):
        found = await dry_run(pool, first, last, rules, now=end)
        was = (await dry_run(pool, first, last, {}, now=end, service_id="other")).was
        assert plain(found.would_be) == plain(was)
        assert plain((await dry_run(pool, first, last, {}, now=end)).would_be) == plain(found.was)


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"quorum": "most"}, "quorum"),
        ({"quorum": "0"}, "quorum"),
        ({"regions": ("eu", "mars")}, "regions"),
        ({"ends_at": at(0) + timedelta(days=101)}, "ends_at"),
    ],
)
async def test_what_cannot_be_tried(pool: Pool, rules: dict[str, object], field: str) -> None:
    await watched(pool)
    with pytest.raises(Refused) as refused:
        await dry_run(pool, 0, 20, rules)
    assert [one.field for one in refused.value.problem.errors] == [field]


async def test_one_dry_run_is_computed_at_a_time(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without the semaphore."""
    running, most = 0, 0

    async def counted(*_: object, **__: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)  # let the others begin
        await pool.fetchval("select 1")
        running -= 1

    monkeypatch.setattr(audits, "dry_run", counted)
    run = answers.about_the_past(pool, lambda: START)[TIMELINE_DRY_RUN]
    query = DryRunQuery(service_id="id-recognition", starts_at=START, ends_at=START + timedelta(hours=1))
    await asyncio.gather(*(run(query) for _ in range(3)))
    assert most == 1


async def test_few_wait_for_a_dry_run_and_none_for_ever(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without the limit of those that wait, without the limit of time, and with a turn that is not given back."""

    async def hanging(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    run = answers.about_the_past(pool, lambda: START)[TIMELINE_DRY_RUN]
    query = DryRunQuery(service_id="id-recognition", starts_at=START, ends_at=START + timedelta(hours=1))
    monkeypatch.setattr(audits, "dry_run", hanging)
    monkeypatch.setattr(answers, "DRY_RUN_S", 0.5)
    async with asyncio.timeout(10):
        ended = await asyncio.gather(*(run(query) for _ in range(6)), return_exceptions=True)
    problems = [one.problem for one in ended if isinstance(one, Refused)]
    assert [one.status for one in problems] == [503] * 6
    assert sorted("shorter time" in one.detail for one in problems) == [False] * 2 + [True] * 4

    async def quick(*_: object, **__: object) -> str:
        return "done"

    monkeypatch.setattr(audits, "dry_run", quick)
    assert await run(query) == "done"  # type: ignore[comparison-overlap]  # what the stand-in says
