"""What becomes of a published timeline, what a fold has to mark, and the text that digests are made of.

Seen red with rows before `since` dropped, with equal neighbours left apart, with `disturbed_from` blind to a turn in the middle and to an
old slot, and with numbers left as Python writes them.
"""

import json
import math
import struct
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator.domain.amending import Row, amended, rows
from services.aggregator.domain.canonical import canonical, digest
from services.aggregator.domain.courses import (
    Checkpoint,
    Rules,
    Stage,
    Stretch,
    View,
    disturbed_from,
    extended,
    region_stretches,
)
from services.aggregator.domain.timeline import State
from services.aggregator.domain.verdict import Observation, Region, Thresholds, observe, unmoved

INTERVAL, SILENT = 1000, 3500
END = 60


@st.composite
def timelines(draw: st.DrawFn) -> list[Row]:
    cuts = sorted({0, *draw(st.sets(st.integers(1, END), max_size=8))})
    states = draw(st.lists(st.sampled_from([State.UP, State.DOWN, State.INACTIVE]), min_size=len(cuts), max_size=len(cuts)))
    stages = [Stage(start, end, state) for start, end, state in zip(cuts, [*cuts[1:], END + 9], states, strict=True)]
    _, whole = amended([], rows(stages), since=0)
    return whole


def state_at(found: list[Row], at: int) -> State:
    return next((one.state for one in found if one.start <= at and (one.end is None or at < one.end)), State.INACTIVE)


@given(timelines(), timelines(), st.integers(0, END))
def test_what_is_before_stays_what_is_after_is_new_and_equal_rows_are_not_touched(one: list[Row], two: list[Row], since: int) -> None:
    published = [row for row in one if row.end is None or row.end >= since]
    fresh = [Row(max(row.start, since), row.end, row.state) for row in two if row.end is None or row.end > since]
    gone, new = amended(published, fresh, since=since)
    after = sorted([row for row in one if row not in gone] + new, key=lambda row: row.start)
    for at in range(END + 20):
        assert state_at(after, at) == (state_at(one, at) if at < since else state_at(two, at))
    assert not set(gone) & set(new)
    assert set(gone) <= set(published)
    assert all(row.end is not None and row.end <= following.start for row, following in pairwise(after))
    assert not any(following.continues(row) for row, following in pairwise(after))


def test_the_same_again_amends_nothing() -> None:
    published = [Row(0, 10, State.UP), Row(10, 20, State.DOWN, ("eu",)), Row(20, None, State.UP)]
    for since in (0, 5, 10, 15, 20, 25):
        fresh = [Row(max(one.start, since), one.end, one.state, one.down) for one in published if one.end is None or one.end > since]
        assert amended([one for one in published if one.end is None or one.end >= since], fresh, since=since) == ([], [])


def test_inactive_time_has_no_row_and_the_last_goes_on() -> None:
    stages = [Stage(0, 5, State.UP), Stage(5, 7, State.INACTIVE), Stage(7, 9, State.DOWN, ("eu",))]
    assert rows(stages) == [Row(0, 5, State.UP), Row(7, None, State.DOWN, ("eu",))]
    assert rows(stages[:2]) == [Row(0, 5, State.UP)]


@pytest.mark.parametrize(
    ("first", "more", "whole"),
    [
        ([], [], []),
        ([(0, 5, "up")], [], [(0, 5, "up")]),
        ([], [(0, 5, "up")], [(0, 5, "up")]),
        ([(0, 5, "up")], [(5, 9, "up")], [(0, 9, "up")]),
        ([(0, 5, "up")], [(3, 4, "down"), (4, 9, "up")], [(0, 3, "up"), (3, 4, "down"), (4, 9, "up")]),
        ([(0, 3, "up"), (3, 5, "down"), (5, 6, "up")], [(2, 9, "up")], [(0, 9, "up")]),
        ([(0, 3, "up"), (3, 5, "down")], [(3, 9, "up"), (9, 10, "down")], [(0, 9, "up"), (9, 10, "down")]),
    ],
)
def test_the_later_go_is_right(
    first: list[tuple[int, int, str]], more: list[tuple[int, int, str]], whole: list[tuple[int, int, str]]
) -> None:
    def made(of: list[tuple[int, int, str]]) -> list[Stretch]:
        return [Stretch(start, end, View(view)) for start, end, view in of]

    assert extended(made(first), made(more)) == made(whole)


KINDS = {"h": (True, False), "d": (True, True), "f": (False, False)}


@settings(max_examples=500)
@given(
    st.text("hhhhdf...", max_size=40),
    st.text("hhhdf...", min_size=1, max_size=8),
    st.builds(Thresholds, st.integers(1, 3), st.integers(1, 3), st.just(SILENT)),
)
def test_what_disturbs_nothing_leaves_the_timeline_going_on(before: str, new: str, thresholds: Thresholds) -> None:
    text = before + new
    seen = [Observation(place * INTERVAL, *KINDS[letter]) for place, letter in enumerate(text) if letter != "."]
    old = [one for one in seen if one.slot < len(before) * INTERVAL]
    fresh = seen[len(old) :]
    if not fresh:
        return
    region = observe(Region("eu"), old, thresholds)
    calm = unmoved(region, fresh, thresholds)
    slot = disturbed_from(region, fresh, thresholds, calm=calm)
    rules = [Rules(0, INTERVAL, thresholds)]

    def last(of: list[Observation], until: int) -> list[tuple[int, View]]:
        stretches, _ = region_stretches(of, rules, begin=Checkpoint(), until=until, silent=False)
        return [(one.start, one.view) for one in stretches]

    if slot is None:
        assert last(seen, seen[-1].slot + 1) == last(old, old[-1].slot + 1), "it goes on as it was"
    else:
        assert slot in {one.slot for one in fresh}


RESTLESS = st.builds(lambda begin, tune: begin + tune * 20, st.text("hdf", max_size=6), st.text("hdf", min_size=2, max_size=3))
ASKED = st.builds(Thresholds, st.integers(1, 4), st.integers(1, 4), st.sampled_from((SILENT, SILENT + 2 * INTERVAL)))


@settings(max_examples=1000)
@given(st.one_of(st.text("hhhdf..", max_size=20), RESTLESS), st.integers(0, 40), st.text("hhhdf...", min_size=1, max_size=8), ASKED, ASKED)
def test_what_was_judged_otherwise_is_not_forgotten_too_soon(text: str, cut: int, new: str, then: Thresholds, asked: Thresholds) -> None:
    """Others up to the cut. Seen red without `asked_since`, with the window's first slot alone, and with any kinds of outcomes."""
    since = cut * INTERVAL
    asked = replace(asked, silent_since=since, silent_longest=max(then.silent_after, asked.silent_after), asked_since=since)
    rules = [Rules(0, INTERVAL, then), Rules(since, INTERVAL, asked)]
    seen = [Observation(place * INTERVAL, *KINDS[letter]) for place, letter in enumerate(text + new) if letter != "."]
    old = [one for one in seen if one.slot < len(text) * INTERVAL]
    fresh = seen[len(old) :]
    if not fresh or not old or fresh[0].slot < since:
        return
    region = observe(
        observe(Region("eu"), [one for one in old if one.slot < since], then), [one for one in old if one.slot >= since], asked
    )
    if disturbed_from(region, fresh, asked, calm=unmoved(region, fresh, asked)) is None:
        ends = []
        for some in (old, seen):
            stretches, _ = region_stretches(some, rules, begin=Checkpoint(), until=some[-1].slot + 1, silent=False)
            ends.append([(one.start, one.view) for one in stretches])
        assert ends[0] == ends[1], "it goes on as it was"


def test_a_slot_that_is_not_later_disturbs() -> None:
    thresholds = Thresholds(2, 2, SILENT)
    region = observe(Region("eu"), [Observation(n, healthy=True) for n in (1000, 3000)], thresholds)
    assert disturbed_from(region, [Observation(2000, healthy=True)], thresholds, calm=False) == 2000
    assert disturbed_from(Region("eu"), [Observation(2000, healthy=False)], thresholds, calm=False) == 2000
    turned_and_back = [Observation(slot, healthy=slot > 5000) for slot in (4000, 5000, 6000, 7000)]
    assert disturbed_from(region, turned_and_back, thresholds, calm=False) == 5000


# RFC 8785, appendix B: the bits of a number, and how it is written
RFC_NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), RFC_NUMBERS)
def test_numbers_are_written_as_the_rfc_has_them(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value) == text


def test_keys_are_sorted_and_text_is_escaped_as_the_rfc_has_it() -> None:
    value = {"b": [1, True, None, "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"], "a": {}, "ö": 56.0}
    assert canonical(value) == '{"a":{},"b":[1,true,null,"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"],"ö":56}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1}) != digest({"a": 2, "b": 2})


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text("abc", max_size=3), one, max_size=3)))  # fmt: skip
def test_what_is_written_is_read_back(value: object) -> None:
    assert json.loads(canonical(value), parse_int=float) == value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(value)
