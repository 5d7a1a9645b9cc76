"""The worked examples of docs/sla.md, executed: page and code cannot drift apart.

Seen red with partial_share ignored, with maintenance never counted, with percentages rounded, and with a budget of the past only.
"""

import math
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from services.aggregator.domain.accounting import (
    BURN_RULES,
    Account,
    Accounting,
    BurnRule,
    account,
    budget,
    burn_rate,
    burning,
    threshold,
)
from services.aggregator.domain.calendar import DAY_MS, Period, Window, day_of, day_start, days, window_at
from services.aggregator.domain.day import day_status, uptime_percentage
from services.aggregator.domain.timeline import Interval, Span, State, filled, pieces

PAGE = Path(__file__).parents[3] / "docs" / "sla.md"
MINUTE, HOUR = 60_000, 3_600_000


def rows(example: str) -> list[list[str]]:
    """Return the cells of the table after an example's mark."""
    return list(_rows(PAGE.read_text(encoding="utf-8").split(f"<!-- example: {example} -->\n", 1)[1]))


def _rows(text: str) -> Iterator[list[str]]:
    for number, line in enumerate(text.splitlines()):
        if not line.startswith("|"):
            return
        if number > 1:
            yield [cell.strip() for cell in line.strip("|").split("|")]


def minutes(amount: Fraction | int) -> Fraction:
    return Fraction(amount) / MINUTE


@pytest.mark.parametrize("row", rows("vendors"))
def test_the_vendors_accounting(row: list[str]) -> None:
    share, downtime, uptime = row
    hour = [
        Interval(0, 30 * MINUTE, State.UP),
        Interval(30 * MINUTE, 50 * MINUTE, State.PARTIAL),
        Interval(50 * MINUTE, HOUR, State.DOWN),
    ]
    found = account(pieces(hour, ()), Accounting(partial_share=Fraction(share)))
    assert minutes(found.downtime) == Fraction(downtime)
    assert found.percentage == Decimal(uptime)


@pytest.mark.parametrize("row", rows("left out"))
def test_maintenance_and_unknown_in_and_out(row: list[str]) -> None:
    maintenance, unknown, counted, downtime, uptime = row
    day = [
        Interval(0, 10 * HOUR, State.UP),
        Interval(10 * HOUR, 11 * HOUR, State.DOWN),
        Interval(11 * HOUR, 15 * HOUR, State.UP),
        Interval(15 * HOUR, 15 * HOUR + 40 * MINUTE, State.UNKNOWN),
        Interval(15 * HOUR + 40 * MINUTE, 24 * HOUR, State.UP),
    ]
    works = Span(10 * HOUR + 30 * MINUTE, 12 * HOUR + 30 * MINUTE, "m1")
    accounting = Accounting(count_maintenance=maintenance == "yes", count_unknown=unknown == "yes")
    found = account(pieces(day, [works]), accounting, maintenance=frozenset({"m1"}))
    assert (minutes(found.counted), minutes(found.downtime)) == (Fraction(counted), Fraction(downtime))
    assert found.percentage == Decimal(uptime)


@pytest.mark.parametrize("row", rows("months"))
def test_the_minutes_of_a_month(row: list[str]) -> None:
    month, zone, length = row
    year, number = (int(part) for part in month.split("-"))
    window = window_at(Period.MONTH, day_start(date(year, number, 15), ZoneInfo(zone)), ZoneInfo(zone))
    assert minutes(window.length) == int(length)
    assert len(days(window, ZoneInfo(zone))) == (31 if number in {3, 10} else 28)
    assert day_of(window.start, ZoneInfo(zone)) == date(year, number, 1)
    assert day_of(window.end, ZoneInfo(zone)) - timedelta(days=1) == days(window, ZoneInfo(zone))[-1]


@pytest.mark.parametrize("row", rows("days"))
def test_the_status_of_a_day(row: list[str]) -> None:
    """Seen red with percentages that are rounded, and with each bound not among what it bounds."""
    total, failed, uptime, status = row
    good = int(total) - int(failed)
    assert str(uptime_percentage(good, int(total)) or "none").lower() == uptime
    assert day_status(good, int(total)).value == status


@pytest.mark.parametrize("row", rows("budgets"))
def test_the_error_budget(row: list[str]) -> None:
    target, length, allowed, down, left, used = (Fraction(cell) for cell in row)
    half = Window(0, int(length) * DAY_MS // 2)
    so_far = Account(counted=half.length, downtime=down * MINUTE)
    found = budget(target / 100, so_far, still_to_come=half.length)
    assert (minutes(found.allowed), minutes(found.left)) == (allowed, left)
    assert found.used_share is not None
    assert round(found.used_share * 100, 2) == used
    assert found.exhausted == (left <= 0)


@pytest.mark.parametrize(("row", "found"), list(zip(rows("rules"), BURN_RULES, strict=True)))
def test_the_burn_rules(row: list[str], found: BurnRule) -> None:
    name, long, short, part, rate = row
    assert found.name == name
    assert Fraction(found.long, HOUR) == Fraction(long.removesuffix(" h"))
    assert Fraction(found.short, MINUTE) == Fraction(short.removesuffix(" min"))
    assert found.budget_share == Fraction(part.removesuffix(" %")) / 100
    assert threshold(found, window=30 * DAY_MS) == Fraction(rate)


@pytest.mark.parametrize("row", rows("thresholds"))
def test_the_rates_of_other_windows(row: list[str]) -> None:
    """Seen red without the bound: a week's slow rule would alert at 0.2333."""
    length, *rates = row
    found = [threshold(rule, window=int(length) * DAY_MS) for rule in BURN_RULES]
    assert [math.floor(one * 10_000) for one in found] == [math.floor(Fraction(rate) * 10_000) for rate in rates]


@pytest.mark.parametrize("row", rows("burning"))
def test_when_the_fast_rule_alerts(row: list[str]) -> None:
    """Seen red with one window asked for alone, either of them, and without the least number of checks."""
    down, lately, checks, over_long, over_short, alerts = row
    target, rule = Fraction(999, 1000), BURN_RULES[0]
    parts = (
        Account(counted=rule.long, downtime=Fraction(int(down) * 1000)),
        Account(counted=rule.short, downtime=Fraction(int(lately) * 1000)),
    )
    rates = [burn_rate(part, target) or Fraction(0) for part in parts]
    assert [math.floor(rate * 10_000) for rate in rates] == [math.floor(Fraction(rate) * 10_000) for rate in (over_long, over_short)]
    found = burning(rule, target=target, window=30 * DAY_MS, long=parts[0], short=parts[1], samples=int(checks))
    assert found == (alerts == "yes")


def test_time_that_no_interval_covers_is_inactive_and_never_up() -> None:
    whole = filled([Interval(HOUR, 2 * HOUR, State.UP)], Window(0, 3 * HOUR))
    assert [one.state for one in whole] == [State.INACTIVE, State.UP, State.INACTIVE]
    found = account(pieces(whole, ()), Accounting())
    assert (found.counted, found.inactive) == (HOUR, 2 * HOUR)
    assert account((), Accounting()).percentage is None
