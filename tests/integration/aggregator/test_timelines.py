"""The timeline of a service in its database: computed behind the folds, amended by what is late, forgetting nothing that was published.

Seen red with marks left out of the fold or of silence, with `disturbed_from` blind to gaps, with what is no longer believed deleted, with
checkpoints taken at `from_slot` itself or for settled up to their slot, with every region begun at its newest, with none thinned, with the
floor of dropped months ignored, with unknown time before silence is declared, without the lock, and without confirmations.
"""

import random
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from services.aggregator import partitions, replays, timelines, usecases
from services.aggregator.domain.amending import Row
from services.aggregator.domain.timeline import State
from services.aggregator.store import slot_of
from shared.contracts.checks import CheckResult
from shared.database import Pool, transaction
from tests.integration.aggregator.story import INTERVAL_MS, START, at, batch, confirmation, definition, fold, learn, results, see

SERVICE = "id-recognition"
LETTERS = {State.UP: "u", State.DEGRADED: "g", State.PARTIAL: "p", State.DOWN: "d", State.UNKNOWN: "n", State.INACTIVE: "i"}
CODES = {"o": {"u"}, "po": {"g", "p"}, "mo": {"d"}, "nd": {"n"}, "e": {"i"}}


async def work(pool: Pool, now: datetime) -> int:
    """Compute until nothing is waiting any more; return how often."""
    total = 0
    while done := await replays.work(pool, clock=lambda: now):
        total += done
    return total


async def told(pool: Pool, slots: int, *, service_id: str = SERVICE, as_of: datetime | None = None) -> str:
    """Return a letter for each slot from START on."""
    return letters(await believed(pool, service_id=service_id, as_of=as_of), slots)


SQL_BELIEVED = """
select * from timeline where service_id = $1 and case when $2::timestamptz is null then known_until is null
                                                 else known_from <= $2 and (known_until is null or known_until > $2) end
 order by started_at"""


def letters(rows: list[Row], slots: int) -> str:
    moments = [slot_of(at(slot)) for slot in range(slots)]
    return "".join(
        LETTERS[next((one.state for one in rows if one.start <= moment and (one.end is None or moment < one.end)), State.INACTIVE)]
        for moment in moments
    )


async def believed(pool: Pool, *, service_id: str = SERVICE, as_of: datetime | None = None) -> list[Row]:
    return [timelines.row_of(one) for one in await pool.fetch(SQL_BELIEVED, service_id, as_of)]


async def marks(pool: Pool) -> int:
    count: int = await pool.fetchval("select count(*) from timeline_dirty")
    return count


async def silence(pool: Pool, now: datetime) -> int:
    return await usecases.declare_silent(pool, settled_since=START, now=now)


async def test_a_state_begins_with_the_first_check_that_showed_it(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "++--+-++")
    await work(pool, at(8))
    assert await told(pool, 8) == "uudddduu"
    rows = await believed(pool)
    assert [(one.state, one.end is None) for one in rows] == [(State.UP, False), (State.DOWN, False), (State.UP, True)]


async def test_a_fold_of_what_was_expected_marks_nothing(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "++++")
    await work(pool, at(4))
    for slot in range(4, 20):
        await see(pool, "+", first=slot)
    await see(pool, "-", first=20)  # one failure of two: nothing follows yet
    assert await marks(pool) == 0
    await see(pool, "-", first=21)
    assert await marks(pool) == 1
    await work(pool, at(22))
    assert await told(pool, 22) == "u" * 20 + "dd"


async def test_a_late_result_amends_with_a_trail(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "++-+++")
    await work(pool, at(6))
    assert await told(pool, 6) == "uuuuuu"

    late = results("-", first=2)[0]
    await fold(pool, batch([confirmation(late, attempt=1, after_ms=500)]), now=at(9))
    await work(pool, at(9))

    assert await told(pool, 6) == "uuduuu"
    assert await told(pool, 6, as_of=at(8)) == "uuuuuu", "as it was published"
    assert await told(pool, 6, as_of=at(9)) == "uuduuu"
    rows = await pool.fetch("select known_from, known_until from timeline where known_until is not null")
    assert [tuple(row.values()) for row in rows] == [(at(6), at(9))]


async def test_silence_and_its_end(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "+++")
    await work(pool, at(3))
    assert await silence(pool, at(9)) == 1
    await work(pool, at(9))
    assert await told(pool, 9) == "uuunnnnnn"
    await see(pool, "++", first=12)
    await work(pool, at(14))
    assert await told(pool, 14) == "uuu" + "n" * 9 + "uu"
    # what the silence had swallowed comes after all
    await see(pool, "+" * 9, first=3)
    await work(pool, at(15))
    assert await told(pool, 14) == "u" * 14
    assert await told(pool, 14, as_of=at(14)) == "uuu" + "n" * 9 + "uu"


async def test_a_gap_that_nobody_declared_is_a_gap(pool: Pool) -> None:
    """As when the aggregator itself was away: the checks of that time never came."""
    await learn(pool, definition())
    await see(pool, "+++")
    await work(pool, at(3))
    await see(pool, "++", first=20)
    await work(pool, at(22))
    assert await told(pool, 22) == "uuu" + "n" * 17 + "uu"


async def test_what_did_not_come_yet_is_not_unknown_before_silence_is_declared(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "+++")
    await work(pool, at(100))
    assert await told(pool, 100) == "u" * 100


async def test_regions_that_disagree_are_named(pool: Pool) -> None:
    await learn(pool, definition())
    for region, seen in (("eu", "++++--++"), ("us", "++------"), ("asia", "++++++++")):
        await see(pool, seen, region=region)
    await work(pool, at(8))
    rows = await believed(pool)
    assert [(one.state, one.down) for one in rows] == [
        (State.UP, ()),
        (State.PARTIAL, ("us",)),
        (State.DOWN, ("eu", "us")),
        (State.PARTIAL, ("us",)),
    ]


async def test_pauses_and_the_end_of_a_service_are_inactive(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "++++")
    paused = definition(version=2, is_active=False).model_copy(update={"updated_at": at(4)})
    await learn(pool, paused, now=at(5))
    await work(pool, at(6))
    assert await told(pool, 6) == "uuuuii"
    resumed = definition(version=3).model_copy(update={"updated_at": at(8)})
    await learn(pool, resumed, now=at(8))
    await see(pool, "++", first=9)
    await work(pool, at(11))
    assert await told(pool, 11) == "uuuuiiiinuu"
    await learn(pool, definition(version=4), removed_at=at(12), now=at(12))
    await work(pool, at(13))
    assert await told(pool, 14) == "uuuuiiiinuuuii"
    assert (await believed(pool))[-1].end == slot_of(at(12))
    assert await pool.fetchval("select count(*) from timeline_progress") == 0, "nothing is expected of it any more"


@pytest.mark.parametrize("late", [False, True])
async def test_definitions_count_from_their_own_time_in_whatever_order_they_come(pool: Pool, *, late: bool) -> None:
    strict = definition(version=2).model_copy(update={"updated_at": at(4), "failure_threshold": 1})
    for one in (strict, definition()) if late else (definition(), strict):
        await learn(pool, one)
    await see(pool, "+-+++-++")
    await work(pool, at(8))
    assert await told(pool, 8) == "uuuuuduu", "the second failure came under the stricter rules"


@pytest.mark.parametrize("seed", range(4))
async def test_however_it_comes_it_is_what_the_whole_says(pool: Pool, seed: int) -> None:
    """Shuffled, in pieces, with the worker between them and checkpoints every hour, beside another that gets the same in order."""
    chance = random.Random(seed)
    everything = story(chance, SERVICE)
    await learn(pool, definition())
    await learn(pool, definition("other"))
    end = at(3 * 1800)
    shuffled = list(everything)
    for start in range(0, len(shuffled), 600):  # late by up to half an hour or so, as a spool is
        part = shuffled[start : start + 600]
        chance.shuffle(part)
        shuffled[start : start + 600] = part
    late = chance.sample(shuffled, 40)
    shuffled = [one for one in shuffled if one not in late] + late
    for start in range(0, len(shuffled), 500):
        piece = shuffled[start : start + 500]
        await fold(pool, batch(piece), now=max(one.scheduled_at for one in piece))
        if chance.random() < 0.7:
            await work(pool, max(one.scheduled_at for one in shuffled[: start + 500]))
    await work(pool, end)

    await fold(pool, batch(own(everything, "other")), now=end)
    await work(pool, end)

    mine, whole = await believed(pool), await believed(pool, service_id="other")
    assert mine == whole
    assert len(mine) > 10
    await agree(pool)
    points = await pool.fetchval("select count(*) from course_checkpoint where service_id = $1 and region = 'eu'", SERVICE)
    assert 3 <= points <= 5, "one an hour"


def story(chance: random.Random, service_id: str) -> list[CheckResult]:
    """Return three hours of two regions: long calm stretches, outages, flapping, gaps."""
    found = []
    for region in ("eu", "us"):
        pattern = ""
        while len(pattern) < 3 * 1800:
            length = chance.randint(1, 400)
            pattern += chance.choice(("+" * length, "+" * length, "-" * (length // 8), "~" * (length // 8), "+-" * 3, "?" * (length // 10)))
        found += results(pattern[: 3 * 1800 - 20] + "+" * 20, service_id=service_id, region=region)
    return sorted(found, key=lambda one: (one.scheduled_at, one.region))


def own(found: list[CheckResult], service_id: str) -> list[CheckResult]:
    return [
        one.model_copy(update={"service_id": service_id, "id": results("+", first=n, service_id=service_id, region=one.region)[0].id})
        for one in found
        for n in [(one.scheduled_at - START) // timedelta(milliseconds=INTERVAL_MS)]
    ]


async def agree(pool: Pool) -> None:
    """Hold the last open state of every timeline against the present status."""
    statuses = {
        row["service_id"]: row["status"]
        for row in await pool.fetch("select service_id, status from status_interval where ended_at is null")
    }
    for service_id, status in statuses.items():
        rows = await believed(pool, service_id=service_id)
        last = LETTERS[rows[-1].state] if rows and rows[-1].end is None else "i"
        assert last in CODES[status], (service_id, last, status)


@pytest.mark.parametrize("pattern", ["++++", "++--", "+~~~", "+-+-", "-", "++--+", "--++", "+~-~-", "++++++++--"])
async def test_its_end_is_the_present_status(pool: Pool, pattern: str) -> None:
    await learn(pool, definition())
    await learn(pool, definition("paused", is_active=False))
    await see(pool, pattern)
    await see(pool, "+" * len(pattern), region="us")
    await work(pool, at(len(pattern)))
    await agree(pool)
    await silence(pool, at(60))
    await work(pool, at(60))
    await agree(pool)
    await see(pool, pattern, first=70)
    await work(pool, at(82))
    await agree(pool)


async def test_a_pass_without_a_mark_changes_nothing_and_saves_checkpoints(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "+" * 100)
    await work(pool, at(100))
    for start in range(100, 5_500, 900):
        await see(pool, "+" * 900, first=start)
    rows = await believed(pool)
    assert await work(pool, at(5_500)) == 1, "its turn came"
    assert await work(pool, at(5_500)) == 0
    assert await believed(pool) == rows
    hours = await pool.fetch("select slot from course_checkpoint order by slot")
    assert len(hours) == 4


async def test_old_checkpoints_are_thinned_and_what_is_late_is_still_right(pool: Pool) -> None:
    """Four days, one check in ten minutes."""
    slow = definition().model_copy(update={"check_interval": 600_000})
    await learn(pool, slow)
    step = 300  # slots of two seconds
    chance = random.Random(5)
    everything = [results(chance.choice("++++-"), first=n * step)[0] for n in range(4 * 144)]
    held = set(chance.sample(range(len(everything)), 30))
    end = at(4 * 144 * step)
    for day in range(4):
        part = [one for n, one in enumerate(everything) if n not in held and n // 144 == day]
        await fold(pool, batch(part), now=part[-1].scheduled_at)
        await work(pool, part[-1].scheduled_at)
    assert await pool.fetchval("select count(*) from course_checkpoint") > 90
    await work(pool, end + timedelta(hours=2))
    points = await pool.fetch("select slot from course_checkpoint order by slot")
    assert len(points) < 60, "hourly for two days, daily before"
    for n in held:
        await fold(pool, batch([everything[n]]), now=end)
        await work(pool, end + timedelta(hours=3))
    await learn(pool, slow.model_copy(update={"id": "other"}))
    shifted = [
        one.model_copy(update={"service_id": "other", "id": results("+", first=n * step, service_id="other")[0].id})
        for n, one in enumerate(everything)
    ]
    await fold(pool, batch(shifted), now=end)
    await work(pool, end + timedelta(hours=3))
    assert await believed(pool) == await believed(pool, service_id="other")


async def test_what_lies_before_the_oldest_month_is_never_computed_again(pool: Pool) -> None:
    await learn(pool, definition(created_at=START - timedelta(days=60)))
    async with transaction(pool) as conn:
        await partitions.make(conn, today=(START - timedelta(days=40)).date(), ahead=2)
    old = results("+" * 30 + "---" + "+++", start=START - timedelta(days=40))
    await fold(pool, batch(old), now=START - timedelta(days=39))
    await work(pool, START - timedelta(days=39))
    await see(pool, "+-++")
    await silence(pool, at(30))
    await work(pool, at(30))
    before = [one for one in await believed(pool) if one.end is not None and one.end < slot_of(START)]
    assert len(before) >= 4
    for name in ("2025_12", "2026_01"):
        await pool.execute(f"drop table if exists api_response_times_{name}")
    assert await pool.fetchval("select count(*) from api_response_times where scheduled_at < $1", START) == 0

    await see(pool, "-", first=4)
    await fold(pool, batch([confirmation(results("-", first=1)[0], attempt=1, after_ms=500)]), now=at(31))
    await fold(pool, batch(results("-", start=START - timedelta(days=40), first=10)), now=at(31))
    await work(pool, at(31))

    after = await believed(pool)
    assert after[: len(before)] == before
    assert await told(pool, 3) == "udu"


async def test_two_workers_share_services_and_a_worker_that_dies_leaves_the_mark(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "++--")
    with pytest.raises(InterruptedError):
        await die_at_work(pool)
    assert await believed(pool) == []
    await work(pool, at(4))
    assert await told(pool, 4) == "uudd"


async def die_at_work(pool: Pool) -> None:
    async with transaction(pool) as conn:
        claim = await timelines.claim(conn, SERVICE)
        assert claim is not None
        async with transaction(pool) as other:
            assert await timelines.claim(other, SERVICE) is None
        await replays.advance(conn, claim, clock=lambda: at(4))
        raise InterruptedError


async def test_what_is_published_is_known_from_when_it_is_published(pool: Pool) -> None:
    """Seen red with the clock read once for each service, before it is computed."""
    for number in range(3):
        await learn(pool, definition(f"service-{number}"))
        await see(pool, "++--", service_id=f"service-{number}")
    ticks = count(10)
    assert await replays.work(pool, clock=lambda: at(next(ticks))) == 3
    rows = await pool.fetch("select distinct known_from from timeline order by known_from")
    assert [one["known_from"] for one in rows] == [at(12), at(14), at(16)]


async def test_a_turn_reaches_back_behind_what_was_computed_already(pool: Pool) -> None:
    """It begins with the first failure, which a checkpoint lies after; and there the other region was not yet what it is now."""
    await learn(pool, definition().model_copy(update={"failure_threshold": 3, "recovery_threshold": 1}))
    await see(pool, "++++++--")
    await see(pool, "++-----+", region="us")
    await work(pool, at(8))
    assert await pool.fetchval("select max(slot) from course_checkpoint where region = 'eu'") == slot_of(at(7))
    await see(pool, "-", first=8)
    await see(pool, "+", first=8, region="us")
    await work(pool, at(9))
    assert [(one.state, one.start, one.down) for one in await believed(pool)] == [
        (State.UP, slot_of(at(0)), ()),
        (State.PARTIAL, slot_of(at(2)), ("us",)),
        (State.DOWN, slot_of(at(6)), ("eu", "us")),
        (State.PARTIAL, slot_of(at(7)), ("eu",)),
    ]


async def test_a_definition_counts_from_its_very_moment(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "+++-")
    await work(pool, at(4))
    await learn(pool, definition(version=2).model_copy(update={"updated_at": at(3), "failure_threshold": 1}), now=at(4))
    await work(pool, at(5))
    assert await told(pool, 4) == "uuud"


async def test_what_is_folded_while_checks_are_read_makes_no_gap(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on as it was, so nothing marks it; were only its later half read, the rest would be missing. Seen red with all read."""
    await learn(pool, definition())
    await see(pool, "-" * 10)
    await see(pool, "+" * 20, region="us")
    read, met = replays._letting_go, list[datetime]()  # noqa: SLF001  # between two pieces

    async def and_fold(*of_what: Any) -> Any:  # noqa: ANN401  # handed on
        piece = await read(*of_what)
        if piece and piece[-1]["scheduled_at"] == at(19):
            met.append(at(19))
            known = await marks(pool)
            await see(pool, "-" * 20, first=10)
            assert await marks(pool) == known
        return piece

    monkeypatch.setattr(replays, "PIECE", 4)
    monkeypatch.setattr(replays, "_letting_go", and_fold)
    await work(pool, at(30))
    assert met
    assert await told(pool, 30) == "p" * 30
