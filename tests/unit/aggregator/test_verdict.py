"""The status of a service, as a function of outcomes."""

import random
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.aggregator.domain import verdict
from services.aggregator.domain.courses import Checkpoint, Rules, View, region_stretches, view
from services.aggregator.domain.verdict import Condition, Observation, Region, Standing, Thresholds, judge, observe, silenced
from shared.contracts.codes import Status

TWO = Thresholds(failure=2, recovery=2)
INTERVAL = 1000

thresholds = st.builds(Thresholds, failure=st.integers(1, 5), recovery=st.integers(1, 5), silent_after=st.sampled_from([2500, 10**9]))
SIGNS = {"+": (True, False), "~": (True, True), "-": (False, False)}
outcomes = st.lists(st.sampled_from(list(SIGNS.values())), max_size=100).map(
    lambda found: [Observation(slot * INTERVAL, healthy, degraded) for slot, (healthy, degraded) in enumerate(found)]
)


def region(pattern: str, name: str = "eu", *, start: int = 0) -> Region:
    """Return a region that saw + (healthy), ~ (degraded) and - (failed) in the slots from `start` on."""
    return observe(Region(name), [Observation((start + slot) * INTERVAL, *SIGNS[sign]) for slot, sign in enumerate(pattern)], TWO)


def drawn(pattern: str, *, first: int = 0, step: int = INTERVAL) -> list[Observation]:
    """Return what was seen in the slots from `first` on; a dot is a slot without an outcome."""
    return [Observation(first + slot * step, *SIGNS[sign]) for slot, sign in enumerate(pattern) if sign != "."]


@pytest.mark.parametrize(
    ("pattern", "condition", "since"),
    [
        ("", Condition.UNKNOWN, 0),
        ("+", Condition.UP, 0),
        ("-", Condition.UNKNOWN, 0),
        ("-+", Condition.UP, 1),
        ("--", Condition.DOWN, 0),
        ("+-", Condition.UP, 0),
        ("+--", Condition.DOWN, 1),
        ("+-+-+", Condition.UP, 0),
        ("+---", Condition.DOWN, 1),
        ("+--+", Condition.DOWN, 1),
        ("+--+-+", Condition.DOWN, 1),
        ("+--++", Condition.UP, 3),
        ("+--++--", Condition.DOWN, 5),
    ],
)
def test_a_region_turns_after_enough_outcomes_in_a_row_and_since_the_first_of_them(pattern: str, condition: Condition, since: int) -> None:
    found = verdict.standing(region(pattern), TWO).available

    assert (found.condition, found.since) == (condition, since * INTERVAL)


@pytest.mark.parametrize(
    ("pattern", "failing"),
    [("", False), ("+", False), ("+-", True), ("-", True), ("+--", False), ("+--+", False), ("+-+", False), ("+~", False)],
)
def test_a_region_is_failing_as_long_as_that_is_not_confirmed(pattern: str, *, failing: bool) -> None:
    """Seen red with regions that are down among them: those are known, and nobody waits for them."""
    assert verdict.is_failing(region(pattern), TWO) is failing


@pytest.mark.parametrize(
    ("patterns", "status"),
    [
        ([], Status.NO_DATA),
        ([""], Status.NO_DATA),
        (["-"], Status.NO_DATA),
        (["+"], Status.OPERATIONAL),
        (["--"], Status.MAJOR_OUTAGE),
        (["+", "--"], Status.PARTIAL_OUTAGE),
        (["--", "--"], Status.MAJOR_OUTAGE),
        (["--", ""], Status.MAJOR_OUTAGE),
        (["--", "-"], Status.MAJOR_OUTAGE),
        (["+", ""], Status.OPERATIONAL),
        (["+", "+", "--"], Status.PARTIAL_OUTAGE),
        (["~"], Status.OPERATIONAL),
        (["+~"], Status.OPERATIONAL),
        (["+~~"], Status.PARTIAL_OUTAGE),
        (["+~~+"], Status.PARTIAL_OUTAGE),
        (["+~~++"], Status.OPERATIONAL),
        (["+~-~-"], Status.PARTIAL_OUTAGE),
        (["--~~"], Status.PARTIAL_OUTAGE),
        (["~~--"], Status.MAJOR_OUTAGE),
        (["+~~", "+"], Status.PARTIAL_OUTAGE),
        (["+~~", ""], Status.PARTIAL_OUTAGE),
        (["+~~", "--"], Status.PARTIAL_OUTAGE),
    ],
)
def test_regions_together(patterns: list[str], status: Status) -> None:
    regions = [region(pattern, f"r{index}") for index, pattern in enumerate(patterns)]

    assert judge(regions, TWO, check_interval=INTERVAL).status is status


@pytest.mark.parametrize(
    ("quorum", "patterns", "status"),
    [
        ("any", ["--", "+", "+"], Status.MAJOR_OUTAGE),
        ("any", ["~~", "+", "+"], Status.PARTIAL_OUTAGE),
        ("majority", ["--", "+", "+"], Status.PARTIAL_OUTAGE),
        ("majority", ["--", "--", "+"], Status.MAJOR_OUTAGE),
        ("majority", ["--", "--", "+", "+"], Status.PARTIAL_OUTAGE),  # a half is no majority
        ("majority", ["--", "", "-"], Status.MAJOR_OUTAGE),  # of those with data
        ("all", ["--", "--", "+"], Status.PARTIAL_OUTAGE),
        ("all", ["--", "--", ""], Status.MAJOR_OUTAGE),
        ("2", ["--", "+", "+", "+", "+"], Status.PARTIAL_OUTAGE),
        ("2", ["--", "--", "+", "+", "+"], Status.MAJOR_OUTAGE),
        ("3", ["--", "--"], Status.MAJOR_OUTAGE),  # there are not so many: all of them
        ("3", ["--", "+"], Status.PARTIAL_OUTAGE),
        ("any", ["+", "+"], Status.OPERATIONAL),
        ("any", [""], Status.NO_DATA),
    ],
)
def test_the_quorum_says_how_many_regions_make_an_outage(quorum: str, patterns: list[str], status: Status) -> None:
    """Seen red with the quorum left out of `_status`, and with silent regions counted among the known."""
    regions = [region(pattern, f"r{index}") for index, pattern in enumerate(patterns)]

    found = judge(regions, TWO, check_interval=INTERVAL, quorum=quorum)

    assert found.status is status
    assert found.down == tuple(f"r{index}" for index, pattern in enumerate(patterns) if pattern == "--"), "whoever disagrees is named"


@pytest.mark.parametrize(
    ("regions", "first_failed", "confirmed"),
    [
        ({"eu": "++--", "us": "+---"}, 1, 3),  # us failed first and was confirmed at 2, eu at 3
        ({"eu": "++++", "us": "++---"}, 2, 3),
        ({"eu": "++~~", "us": "++++"}, 2, 3),  # a degradation has its first and its confirmation too
        ({"eu": "++~~", "us": "+--+"}, 1, 2),  # of what is down, not of what is degraded
        ({"eu": "+--++~~"}, 5, 6),
        ({"eu": "--~~"}, 2, 3),  # up again, not well yet: since it is up, confirmed by the second success
        ({"eu": "++-"}, None, None),
        ({"eu": "+--++"}, None, None),
        ({"eu": "+" + "-" * 40}, 1, None),  # longer ago than what is remembered
    ],
)
def test_a_verdict_says_what_failed_first_and_what_confirmed_it(
    regions: dict[str, str], first_failed: int | None, confirmed: int | None
) -> None:
    """Seen red with the confirmation taken from the newest failure, and with the first failure taken from the window."""
    found = judge([region(pattern, name) for name, pattern in regions.items()], TWO, check_interval=INTERVAL)

    slots = [None if one is None else one // INTERVAL for one in (found.first_failed, found.confirmed)]
    assert slots == [first_failed, confirmed]


@given(
    st.lists(outcomes, min_size=1, max_size=4),
    thresholds,
    st.sampled_from(["any", "majority", "all", "2"]),
    st.randoms(use_true_random=False),
)
def test_the_order_of_arrival_changes_nothing_of_a_verdict_over_regions(
    seen: list[list[Observation]], limits: Thresholds, quorum: str, chance: random.Random
) -> None:
    """Results of all regions come mixed, late and again. Seen red with `sorted` removed from `observe`."""
    in_order = [observe(Region(f"r{place}"), some, limits) for place, some in enumerate(seen)]
    arrivals = [(place, one) for place, some in enumerate(seen) for one in some]
    arrivals += chance.sample(arrivals, len(arrivals) // 3)
    arrivals.sort(key=lambda found: found[1].slot // INTERVAL + chance.uniform(0, verdict.WINDOW - 1))
    mixed = [Region(f"r{place}") for place in range(len(seen))]
    for place, one in arrivals:
        mixed[place] = observe(mixed[place], [one], limits)

    found, other = (judge(some, limits, check_interval=INTERVAL, quorum=quorum) for some in (in_order, mixed))
    assert found == other
    assert (found.first_failed is None) == (not found.down and not found.degraded)


@pytest.mark.parametrize(
    ("regions", "status", "since"),
    [
        ({"eu": "++--", "us": "+---"}, Status.MAJOR_OUTAGE, 2),  # since the last one fell
        ({"eu": "++++", "us": "++--"}, Status.PARTIAL_OUTAGE, 2),  # since the first one fell
        ({"eu": "--++", "us": "----"}, Status.PARTIAL_OUTAGE, 2),  # since the first one rose
        ({"eu": "--++++", "us": "----++"}, Status.OPERATIONAL, 4),  # since the last one rose
        ({"eu": "++~~", "us": "++++"}, Status.PARTIAL_OUTAGE, 2),  # since the first degraded outcome
        ({"eu": "--~~", "us": "----"}, Status.PARTIAL_OUTAGE, 2),  # since it rose, if only so far
        ({"eu": "+~~++", "us": "+++++"}, Status.OPERATIONAL, 3),  # since the last one was well again
    ],
)
def test_a_status_holds_since_the_check_that_made_it_so(regions: dict[str, str], status: Status, since: int) -> None:
    found = judge([region(pattern, name) for name, pattern in regions.items()], TWO, check_interval=INTERVAL)

    assert (found.status, found.since) == (status, since * INTERVAL)


def test_evidence_names_the_regions_and_the_checks_of_the_run_that_failed() -> None:
    found = judge([region("++---", "eu"), region("++", "us"), silenced(region("+", "ap"))], TWO, check_interval=INTERVAL)

    assert (found.down, found.up, found.silent) == (("eu",), ("us",), ("ap",))
    assert found.proof == (("eu", 2000), ("eu", 3000), ("eu", 4000))


def test_a_degraded_region_is_up_and_its_evidence_are_the_outcomes_that_were_not_well() -> None:
    found = judge([region("++~-~", "eu"), region("++", "us")], TWO, check_interval=INTERVAL)

    assert (found.up, found.down, found.degraded) == (("eu", "us"), (), ("eu",))
    assert found.proof == (("eu", 2000), ("eu", 3000), ("eu", 4000))


def test_silence_makes_a_status_no_data_since_the_first_slot_that_is_missing() -> None:
    found = judge([silenced(region("+++"))], TWO, check_interval=INTERVAL)

    assert (found.status, found.since, found.silent, found.proof) == (Status.NO_DATA, 3000, ("eu",), (("eu", 2000),))


def test_after_silence_the_next_outcome_begins_from_unknown() -> None:
    quiet = silenced(region("+--"))
    limits = replace(TWO, silent_after=3500)

    back = observe(quiet, [Observation(9000, True)], limits)

    assert judge([back], limits, check_interval=INTERVAL) == verdict.Verdict(Status.OPERATIONAL, 9000, up=("eu",), proof=(("eu", 9000),))
    older = observe(quiet, [Observation(500, True)], limits)
    assert older.is_silent, "what is older than the silence does not end it"
    assert judge([older], limits, check_interval=INTERVAL).status is Status.NO_DATA


def test_what_comes_late_fills_the_gap_that_made_it_silent() -> None:
    """Seen red with what was known forgotten when silence was declared."""
    limits = replace(TWO, silent_after=3500)
    back = observe(silenced(region("+--")), [Observation(5000, True)], limits)

    found = judge([back], limits, check_interval=INTERVAL)

    assert (found.status, found.since, found.silent) == (Status.MAJOR_OUTAGE, 1000, ())


@given(outcomes, thresholds, st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_of_outcomes_changes_anything(
    seen: list[Observation], limits: Thresholds, chance: random.Random
) -> None:
    """Seen red with `sorted` removed from `observe`, and with `setdefault` replaced by a list that keeps repeats."""
    in_order = observe(Region("eu"), seen, limits)

    # each comes at most 31 outcomes late, which is what the window promises; and some come again
    shuffled = sorted(range(len(seen)), key=lambda index: index + chance.uniform(0, verdict.WINDOW - 1))
    arrivals = [seen[index] for index in shuffled]
    arrivals += chance.sample(arrivals, len(arrivals) // 3)
    present = Region("eu")
    while arrivals:
        size = chance.randint(1, 7)
        present = observe(present, arrivals[:size], limits)
        arrivals = arrivals[size:]

    assert present == in_order


@given(outcomes, thresholds)
def test_the_window_and_its_base_say_the_same_as_all_outcomes_together(seen: list[Observation], limits: Thresholds) -> None:
    present, whole = Region("eu"), Standing()
    for one in seen:
        present = observe(present, [one], limits)
        whole = whole.after(one, limits)

    assert verdict.standing(present, limits) == whole
    assert len(present.window) <= verdict.WINDOW


runs = st.lists(st.tuples(st.sampled_from("+~-."), st.integers(1, 6)), max_size=6).map(
    lambda some: "".join(sign * number for sign, number in some)
)

well = st.integers(1, 6).map(lambda number: "+" * number)


@given(runs, st.integers(0, 6), st.one_of(runs, well), runs, thresholds, st.sampled_from([INTERVAL, INTERVAL // 2]))
def test_where_nothing_surely_moved_the_judgement_stays(
    past: str, calm: int, more: str, elsewhere: str, limits: Thresholds, step: int
) -> None:
    """Seen red with `well` replaced by `healthy` in either place, and with `enough` as the failure threshold alone."""
    past += "+" * calm
    before = observe(Region("eu"), drawn(past), limits)
    other = observe(Region("us"), drawn(elsewhere), limits)
    # at half an interval's step some come between what was seen, some repeat it
    seen = drawn(more, first=len(past) * step, step=step)
    if not verdict.unmoved(before, seen, limits):
        return

    after = observe(before, seen, limits)

    old, new = (judge([one, other], limits, check_interval=INTERVAL) for one in (before, after))
    assert (new.status, new.up, new.down, new.degraded) == (old.status, old.up, old.down, old.degraded)


@pytest.mark.parametrize(("interval", "timeout", "expected"), [(1000, 300, 3000), (2000, 1000, 6000), (60_000, 5_000, 155_000)])
def test_silence_begins_after_two_and_a_half_intervals_and_a_timeout(interval: int, timeout: int, expected: int) -> None:
    assert verdict.silent_after_ms(check_interval=interval, timeout=timeout) == expected


@given(outcomes, thresholds)
def test_whether_a_service_is_available_does_not_depend_on_how_well_it_is(seen: list[Observation], limits: Thresholds) -> None:
    """Seen red with `seen.well` given to both courses."""
    plain = [one._replace(degraded=False) for one in seen]
    with_degraded, without = (verdict.standing(observe(Region("eu"), some, limits), limits) for some in (seen, plain))

    assert with_degraded.available == without.available
    assert without.degraded_since is None, "without a degraded outcome a region is up and well, or down"


GAPS = Thresholds(failure=2, recovery=2, silent_after=2500)
limits_with_gaps = st.builds(Thresholds, st.integers(1, 4), st.integers(1, 4), st.sampled_from([2000, 2500]))
restless = st.builds(
    lambda past, tune, number: past + "..." + (tune * number)[:number],
    st.text("+~-", max_size=6),
    st.text("+~-", min_size=2, max_size=3),
    st.integers(20, 60),
)
"""After a gap, outcomes that need not turn a region: what was before the gap may show for as long as they go on."""


@settings(max_examples=400)
@example("--..." + "+-" * 12, GAPS, random.Random(1))  # the gap lies between base and window
@given(st.one_of(st.text("+~-.", max_size=90), restless), limits_with_gaps, st.randoms(use_true_random=False))
def test_however_outcomes_come_the_live_condition_is_how_the_timeline_ends(text: str, limits: Thresholds, chance: random.Random) -> None:
    """Nobody declares silence; each comes at most 23 outcomes late, some at once.

    Seen red with gaps left out of `Standing.follow`, with none looked for between base and window or within the base, and with
    `silent_after` itself taken for too long.
    """
    seen = drawn(text)
    arrivals = [seen[place] for place in sorted(range(len(seen)), key=lambda place: place + chance.uniform(0, verdict.WINDOW - 1))]
    arrivals += chance.sample(arrivals, len(arrivals) // 4)
    present = Region("eu")
    while arrivals:
        size = chance.randint(1, 9)
        present, arrivals = observe(present, arrivals[:size], limits), arrivals[size:]

    until = seen[-1].slot + 1 if seen else 1
    stretches, points = region_stretches(seen, [Rules(0, INTERVAL, limits)], begin=Checkpoint(), until=until, silent=False)
    assert view(verdict.standing(present, limits)) is (stretches[-1].view if seen else View.UNKNOWN)
    assert verdict.standing(present, limits) == points[-1].standing


@pytest.mark.parametrize(
    ("pattern", "status", "since", "first_failed", "confirmed"),
    [
        ("+--...-", Status.NO_DATA, 3, None, None),  # since the first slot that was missed
        ("+--...--", Status.MAJOR_OUTAGE, 6, 6, 7),  # confirmed anew
        ("+--...+", Status.OPERATIONAL, 6, None, None),
        ("+--..-", Status.NO_DATA, 3, None, None),  # 3 s after the last
        ("+-.--", Status.MAJOR_OUTAGE, 1, 1, 3),  # one missed slot is no gap
    ],
)
def test_what_lies_behind_a_gap_that_nobody_declared_is_forgotten(
    pattern: str, status: Status, since: int | None, first_failed: int | None, confirmed: int | None
) -> None:
    """Seen red with gaps left out of `Standing.follow`, and `since` with gaps left out of `_lost`."""
    region_ = observe(Region("eu"), drawn(pattern), GAPS)
    found = judge([region_], GAPS, check_interval=INTERVAL)

    slots = [None if one is None else one // INTERVAL for one in (found.since, found.first_failed, found.confirmed)]
    assert (found.status, slots) == (status, [since, first_failed, confirmed])
    assert found.unsure == (("eu",) if status is Status.NO_DATA else ())


def test_an_outage_that_goes_on_after_a_gap_is_confirmed_anew() -> None:
    """Also where one failure is enough, so that nothing is seen between both. Seen red with gaps left out of `_turned`."""
    one = Thresholds(failure=1, recovery=1, silent_after=2500)
    found = judge([observe(Region("eu"), drawn("+-...-"), one)], one, check_interval=INTERVAL)
    assert (found.status, found.since, found.first_failed, found.confirmed) == (Status.MAJOR_OUTAGE, 5000, 5000, 5000)
