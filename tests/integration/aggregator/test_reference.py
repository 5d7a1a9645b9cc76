"""The whole aggregator, on a real database, agrees with the reference (tests/reference) on what arrives in any order, twice and late.

Seen red with confirmations counted in days or rollups, with repeats counted, with timelines not marked by the fold, with late minutes not
marked, with bins not added up, with a turn one failure too late, with a turn dated to the check that confirmed it, with gaps ignored, with
the other share of partial outages, with days of 24 hours where the clocks change, with corrections in reverse, with a correction that was
taken back since left out of what was published before, with bins of a day counted once each, with days without a record never down, with
reads of a moment by today's rows, with cancelled maintenance counted, and with a budget without what is to come.
"""

import os
import random
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import rollups
from tests.integration.aggregator.asking import other_reads
from tests.integration.aggregator.comparing import differences
from tests.integration.aggregator.playing import play, replicas
from tests.reference.history import FAILED, HEALTHY, Check, Definition, History, ms_of
from tests.reference.making import INTERVAL_MS, Step, Story, made
from tests.servers import Database

SEEDS = range(int(os.environ.get("SLA_TEST_SEEDS", "26")))
"""Stories of forty histories each."""
MINUTES_AT_ONCE = (5, *(1440,) * 9)
"""Rolling up does as much in one transaction as may hold others up; here nobody is, and thousands of transactions would be slow."""


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_number_is_the_references(database: Database, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    story = made(seed)
    chance = random.Random(seed)
    monkeypatch.setattr(rollups, "MINUTES_AT_ONCE", chance.choice(MINUTES_AT_ONCE))
    last = len(story.steps) - 1
    looks = sorted(chance.sample(range(1, last), 2))
    wrong: list[str] = []
    async with replicas(database.url("aggregator")) as all_:

        async def look(place: int) -> None:
            so_far = story.until(place)
            some = chance.sample(list(so_far.services), len(so_far.services) // 8)
            wrong.extend(f"after step {place}: {one}" for one in await differences(all_.some(chance), so_far, among=some))

        await play(story, all_, chance, look=look, looks=looks)
        known = story.until(last)
        wrong += await differences(all_.some(chance), known)
        wrong += await other_reads(all_.some(chance), known, chance, then=[story.until(place) for place in looks])
    checks = sum(len(history.checks) for history in story.services.values())
    print(f"seed {seed}: {len(story.services)} histories, {checks} checks, {len(wrong)} differences")  # noqa: T201  # the figures of a long run (-rP)
    assert not wrong, "\n".join(wrong[:40])


BEGIN = ms_of(datetime(2026, 3, 10, 9, tzinfo=UTC))
RULES = Definition(BEGIN, INTERVAL_MS, 1000, 3, 3)


def told(letters: str, *, slot: int = 0) -> tuple[Check, ...]:
    """Return a check for each letter from a slot on: h healthy, f failed."""
    outcomes = {"h": HEALTHY, "f": FAILED}
    return tuple(Check("eu", BEGIN + (slot + place) * INTERVAL_MS, outcomes[one], 10.0) for place, one in enumerate(letters))


def by_hand(definitions: tuple[Definition, ...], *arriving: tuple[float, tuple[int, ...], tuple[Check, ...]]) -> Story:
    """Return the story of one service; each step: when it is, after so many slots, which definitions come, then which checks."""
    steps = [
        Step(BEGIN + int(slot * INTERVAL_MS), tuple(("one", number) for number in numbers), (tuple(("one", check) for check in checks),))
        for slot, numbers, checks in arriving
    ]
    checks = tuple(check for _, _, some in arriving for check in some)
    return Story(ZoneInfo("UTC"), {"one": History(definitions, checks, steps[-1].now)}, steps)


def up_again(slot: int) -> tuple[tuple[float, tuple[int, ...], tuple[Check, ...]], ...]:
    """Return steps with three successes, the last of which comes shortly after the timeline was looked at without a mark."""
    return (slot + 1.2, (), told("hh", slot=slot)), (slot + 1.9, (), ()), (slot + 2.2, (), told("h", slot=slot + 2))


MIDDLE = BEGIN + 7 * INTERVAL_MS // 2
OFF = replace(RULES, since=MIDDLE, watched=False)
ON = replace(RULES, since=BEGIN + 9 * INTERVAL_MS // 2)
LATE_OFF = replace(RULES, since=BEGIN + 12 * INTERVAL_MS, watched=False)
BY_HAND = {
    "down, off, on, and up at once": by_hand(
        (RULES, OFF, ON), (3.2, (0,), told("hfff")), (3.5, (1,), ()), (4.5, (2,), ()), (5.2, (), told("h", slot=5))
    ),
    "up by what was late when it was off": by_hand(
        (RULES, replace(RULES, since=BEGIN + 13 * INTERVAL_MS // 2, watched=False)),
        (5.2, (0,), told("hfffh")),
        (6.5, (1,), ()),
        (6.8, (), told("h", slot=5)),
        (7.2, (), told("h", slot=6)),
    ),
    "up by what was late when it was silent": by_hand(
        (RULES,), (5.2, (0,), told("hfffh")), (7, (), ()), (7.2, (), told("h", slot=5)), (7.4, (), told("h", slot=6))
    ),
    "still down when what was late filled the silence": by_hand(
        (RULES,), (3.2, (0,), told("hfff")), (7, (), ()), (7.3, (), told("f", slot=5))
    ),
    "down by the thresholds of then, of which today's know nothing": by_hand(
        (RULES, replace(RULES, since=MIDDLE, failure=5)),
        (3.2, (0,), told("hfff")),
        (3.5, (1,), ()),
        *up_again(4),
    ),
    "down for longer than anything that is remembered": by_hand(
        (RULES, replace(RULES, since=MIDDLE, failure=5)),
        (3.2, (0,), told("hfff")),
        (3.5, (1,), ()),
        (33.2, (), told("hf" * 15, slot=4)),
        *up_again(34),
    ),
    "up by one more, where fewer were enough since": by_hand(
        (replace(RULES, recovery=5), replace(RULES, since=BEGIN + 13 * INTERVAL_MS // 2)),
        (6.2, (0,), told("fffhhhh")),
        (6.5, (1,), ()),
        (7.2, (), told("h", slot=7)),
    ),
    "down by thresholds in between, learned late": by_hand(
        (RULES, replace(RULES, since=BEGIN + 5 * INTERVAL_MS // 2, failure=2), replace(RULES, since=BEGIN + 9 * INTERVAL_MS // 2)),
        (4.2, (0,), told("hhhff")),
        (4.52, (2,), ()),
        (4.54, (1,), ()),
        *up_again(5),
    ),
    "silent, and off before anybody said so": by_hand((RULES, LATE_OFF), (1, (0,), told("h")), (13, (1,), told("hh", slot=1))),
}


@pytest.mark.parametrize("story", BY_HAND.values(), ids=BY_HAND)
async def test_what_the_present_does_not_tell(database: Database, story: Story) -> None:
    """Timelines are computed after each step, so that each step has to say what it changes.

    Seen red without forgetting at a pause, with a timeline that goes on through a silence that nobody declared, with late outcomes
    that make nothing of what was forgotten too early, with what was known forgotten when silence is declared, and with `asked_since` left
    out: of what the window begins with, of more than that, where all is calm, and where a definition is learned late.
    """
    async with replicas(database.url("aggregator")) as both:
        await play(story, both, random.Random(0), looks=range(len(story.steps)))
        wrong = await differences(both.pools[1], story.until(len(story.steps) - 1))
    assert not wrong, "\n".join(wrong)
