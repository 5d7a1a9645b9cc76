"""Timelines from outcomes: computed in pieces or whole, they are the same; their end is what the verdict says of the present.

Seen red with a turn dated to the check that confirmed it, with `settled_before` always at the slot, with the gap measured from the start
of the streak, and with `majority` at half of the regions.
"""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator.domain.courses import (
    Checkpoint,
    Rules,
    Stage,
    Stretch,
    View,
    combined,
    region_stretches,
)
from services.aggregator.domain.timeline import State
from services.aggregator.domain.verdict import Observation, Region, Thresholds, judge, observe, reached, silenced
from shared.contracts.codes import Status

INTERVAL, SILENT = 1000, 3500
KINDS = {"h": (True, False), "d": (True, True), "f": (False, False)}


def outcomes(text: str, *, start: int = 0) -> list[Observation]:
    """Return one outcome for each letter, an interval apart; a dot is a slot without one."""
    return [Observation(start + place * INTERVAL, *KINDS[letter]) for place, letter in enumerate(text) if letter != "."]


def rules(failure: int = 2, recovery: int = 2, **more: object) -> Rules:
    return Rules(0, INTERVAL, Thresholds(failure, recovery, SILENT), **more)  # type: ignore[arg-type]  # a test's shorthand


def told(text: str, *, failure: int = 2, recovery: int = 2, silent: bool = False) -> str:
    """Return a letter for each slot: how the region was then."""
    whole, _ = region_stretches(outcomes(text), [rules(failure, recovery)], begin=Checkpoint(), until=len(text) * INTERVAL, silent=silent)
    letters = {View.UNKNOWN: "n", View.UP: "u", View.DEGRADED: "g", View.DOWN: "d"}
    return "".join(letters[view_at(whole, at)] for at in range(0, len(text) * INTERVAL, INTERVAL))


@pytest.mark.parametrize(
    ("seen", "was"),
    [
        ("hhhh", "uuuu"),
        ("hffh", "uddd"),  # one success does not end it
        ("hffhh", "udduu"),  # two do, and it ended with the first
        ("hfhfh", "uuuuu"),
        ("ffh", "ddd"),
        ("fh", "nu"),
        ("hddh", "uggg"),
        ("hdfdh", "ugggg"),  # never down, never well
        ("hdffhh", "ugdduu"),
        ("hh..hh", "uuuuuu"),  # two missed slots are no silence yet
        ("hh....hh", "uunnnnuu"),
        ("ff....fh", "ddnnnnnu"),
    ],
)
def test_what_a_region_saw_and_how_it_was(seen: str, was: str) -> None:
    assert told(seen) == was


LETTERS = st.text("hdf.", min_size=1, max_size=60)
THRESHOLDS = st.builds(Thresholds, st.integers(1, 4), st.integers(1, 4), st.just(SILENT))


@settings(max_examples=1000)
@given(LETTERS, THRESHOLDS, st.data())
def test_from_any_checkpoint_on_it_is_what_the_whole_says(text: str, thresholds: Thresholds, data: st.DataObject) -> None:
    given_rules = [Rules(0, INTERVAL, thresholds)]
    seen, until = outcomes(text), len(text) * INTERVAL
    whole, _ = region_stretches(seen, given_rules, begin=Checkpoint(), until=until, silent=False)
    cut = data.draw(st.integers(0, len(seen)))
    _, points = region_stretches(seen[:cut], given_rules, begin=Checkpoint(), until=until, silent=False)
    rest, _ = region_stretches(seen[cut:], given_rules, begin=points[-1], until=until, silent=False)
    settled = points[-1].settled_before if points[-1].slot >= 0 else 0
    assert [view_at(rest, at) for at in range(settled, until, 500)] == [view_at(whole, at) for at in range(settled, until, 500)]
    before, _ = region_stretches(seen[:cut], given_rules, begin=Checkpoint(), until=until, silent=False)
    assert [view_at(before, at) for at in range(0, settled, 500)] == [view_at(whole, at) for at in range(0, settled, 500)]


def view_at(stretches: list[Stretch], at: int) -> View:
    return next((one.view for one in stretches if one.start <= at < one.end), View.UNKNOWN)


@given(st.lists(st.text("hdf", min_size=1, max_size=30), min_size=1, max_size=3), THRESHOLDS, st.data())
def test_its_end_is_the_verdict_of_the_present(texts: list[str], thresholds: Thresholds, data: st.DataObject) -> None:
    quiet = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    quorum = data.draw(st.sampled_from(["any", "majority", "all", "2"]))
    given_rules = [Rules(0, INTERVAL, thresholds, quorum=quorum)]
    until = 30 * INTERVAL
    stretches, regions = {}, []
    for place, (text, silent) in enumerate(zip(texts, quiet, strict=True)):
        seen = outcomes(text, start=(30 - len(text)) * INTERVAL - 1)
        name = f"r{place}"
        stretches[name], _ = region_stretches(seen, given_rules, begin=Checkpoint(), until=until, silent=silent)
        region = observe(Region(name), seen, thresholds)
        regions.append(silenced(region) if silent else region)
    last = combined(stretches, given_rules, start=0, until=until + INTERVAL if all(quiet) else until)[-1]
    verdict = judge(regions, thresholds, check_interval=INTERVAL, quorum=quorum)
    codes = {State.UP: Status.OPERATIONAL, State.DOWN: Status.MAJOR_OUTAGE, State.UNKNOWN: Status.NO_DATA}
    assert codes.get(last.state, Status.PARTIAL_OUTAGE) == verdict.status
    assert set(last.down) == set(verdict.down)
    assert set(last.degraded) == set(verdict.degraded)


@pytest.mark.parametrize(
    ("quorum", "down", "known", "is_down"),
    [
        ("any", 0, 3, False),
        ("any", 1, 3, True),
        ("majority", 1, 2, False),
        ("majority", 2, 3, True),
        ("majority", 1, 1, True),
        ("all", 2, 3, False),
        ("all", 3, 3, True),
        ("2", 1, 3, False),
        ("2", 2, 3, True),
        ("2", 1, 1, True),
    ],
)
def test_the_quorum(quorum: str, down: int, known: int, *, is_down: bool) -> None:
    assert reached(quorum, down=down, known=known) is is_down


def test_regions_are_combined_and_a_pause_is_inactive() -> None:
    views = {
        "a": [Stretch(0, 10, View.UP), Stretch(10, 30, View.DOWN), Stretch(30, 60, View.UP)],
        "b": [Stretch(0, 20, View.UP), Stretch(20, 25, View.DOWN), Stretch(25, 60, View.DEGRADED)],
        "c": [Stretch(0, 60, View.DOWN)],
    }
    named = Rules(0, INTERVAL, Thresholds(1, 1, SILENT), quorum="all", regions=frozenset("ab"))
    paused = Rules(50, INTERVAL, Thresholds(1, 1, SILENT), watched=False)
    stages = combined(views, [named, paused], start=0, until=60)
    assert stages == [
        Stage(0, 10, State.UP),
        Stage(10, 20, State.PARTIAL, ("a",)),
        Stage(20, 25, State.DOWN, ("a", "b")),
        Stage(25, 30, State.PARTIAL, ("a",), ("b",)),
        Stage(30, 50, State.DEGRADED, (), ("b",)),
        Stage(50, 60, State.INACTIVE),
    ]
    assert all(one.end == two.start for one, two in pairwise(stages))


@pytest.mark.parametrize(("before", "after"), [(1000, 20_000), (20_000, 1000)])
def test_another_interval_makes_no_silence(before: int, after: int) -> None:
    """A gap over the change may be as long as by either definition. Seen red with that of its beginning, and with that of its end."""
    given_rules = [Rules(since, interval, Thresholds(2, 2, 5 * interval // 2)) for since, interval in ((0, before), (before, after))]
    seen = [Observation(0, healthy=False), Observation(1, healthy=False), Observation(20_000, healthy=False)]
    stretches, _ = region_stretches(seen, given_rules, begin=Checkpoint(), until=20_001, silent=False)
    assert [one.view for one in stretches] == [View.DOWN]

    late = [*seen[:2], Observation(60_000, healthy=False)]
    stretches, _ = region_stretches(late, given_rules, begin=Checkpoint(), until=60_001, silent=False)
    assert [(one.start, one.view) for one in stretches] == [(0, View.DOWN), (min(1 + before, 60_000), View.UNKNOWN)]


@pytest.mark.parametrize(("until", "unknown_from"), [(2500, 2499), (3200, 3000)])
def test_who_is_declared_silent_is_so_now_even_before_a_slot_was_missed(until: int, unknown_from: int) -> None:
    """As one whose checker says that it is isolated. Seen red with the first missed slot taken whenever it comes."""
    stretches, _ = region_stretches(outcomes("hhh"), [rules()], begin=Checkpoint(), until=until, silent=True)
    assert [(one.start, one.view) for one in stretches] == [(0, View.UP), (unknown_from, View.UNKNOWN)]
