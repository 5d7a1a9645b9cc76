"""What follows for a group from its members."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.checker.domain.group import judge
from services.checker.domain.known import Known
from services.checker.domain.target import Target
from services.checker.probes.group import KIND, GroupOptions, probe
from shared.contracts.codes import Outcome

CASES: list[tuple[str, int | None, Outcome, str | None]] = [
    ("o o", None, Outcome.HEALTHY, None),
    ("o po", None, Outcome.DEGRADED, "partly down: m1"),
    ("o mo", None, Outcome.FAILED, "down: m1"),
    ("nd mo po", None, Outcome.FAILED, "down: m1"),
    ("nd po", None, Outcome.UNKNOWN, "no data: m0"),
    ("o nd", None, Outcome.UNKNOWN, "no data: m1"),
    ("o e", None, Outcome.HEALTHY, None),
    ("e e", None, Outcome.UNKNOWN, "no member is watched"),
    ("e e", 1, Outcome.UNKNOWN, "no member is watched"),
    ("o o mo", 2, Outcome.DEGRADED, "down: m2"),
    ("o po e", 2, Outcome.DEGRADED, "partly down: m1"),
    ("o o e", 2, Outcome.HEALTHY, None),
    ("o mo mo", 2, Outcome.FAILED, "fewer than 2 work; down: m1, m2"),
    ("o nd mo", 2, Outcome.UNKNOWN, "whether 2 work is not known; down: m2; no data: m1"),
    ("o e e", 2, Outcome.UNKNOWN, "whether 2 work is not known; the others are not watched"),
    ("mo mo mo mo mo mo mo", None, Outcome.FAILED, "down: m0, m1, m2, m3, m4 and 2 more"),
]


@pytest.mark.parametrize(("statuses", "least", "outcome", "message"), CASES)
def test_what_follows_from_the_members(statuses: str, least: int | None, outcome: Outcome, message: str | None) -> None:
    members = {f"m{number}": status for number, status in enumerate(statuses.split())}
    verdict = judge(list(members), members, least=least)
    assert (verdict.outcome, verdict.message) == (outcome, message)


STATUSES = st.lists(st.sampled_from(["o", "po", "mo", "nd"]), min_size=1, max_size=6)
SURE = {Outcome.HEALTHY: 0, Outcome.DEGRADED: 0, Outcome.FAILED: 1}


@given(STATUSES, st.none() | st.integers(1, 6), st.lists(st.sampled_from(["o", "po", "mo"]), min_size=6, max_size=6))
def test_what_is_said_stays_true_whatever_the_silent_members_turn_out_to_be(
    statuses: list[str], least: int | None, turned: list[str]
) -> None:
    """Mutants seen red: members without data counted as working, or as down."""
    members = [f"m{number}" for number in range(len(statuses))]
    before = judge(members, dict(zip(members, statuses, strict=True)), least=least).outcome
    known = [later if status == "nd" else status for status, later in zip(statuses, turned, strict=False)]
    later = judge(members, dict(zip(members, known, strict=True)), least=least).outcome
    assert later is not Outcome.UNKNOWN
    if before is not Outcome.UNKNOWN:
        assert SURE[before] == SURE[later]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "options.members", "required"),
    ({"members": []}, "options.members", ""),
    ({"members": ["a", "a"]}, "options", "once"),
    ({"members": ["A b"]}, "options.members.0", ""),
    ({"members": [f"m{number}" for number in range(101)]}, "options.members", "100"),
    ({"members": ["a"], "rule": "at_least"}, "options", "least"),
    ({"members": ["a"], "least": 1}, "options", "least"),
    ({"members": ["a"], "rule": "at_least", "least": 2}, "options", "as many members"),
]


@pytest.mark.parametrize(("options", "field", "reason"), REFUSED, ids=[str(case[0])[:60] for case in REFUSED])
def test_options_that_cannot_work_are_refused(options: dict[str, Any], field: str, reason: str) -> None:
    read, flaws = KIND.read(options)
    assert read is None
    assert any(flaw.field == field and reason in flaw.reason for flaw in flaws), flaws


def test_a_group_is_no_member_of_itself() -> None:
    assert KIND.flaws is not None
    options = GroupOptions(members=("all", "api"))
    assert [flaw.field for flaw in KIND.flaws("group://all", options)] == ["options.members"]
    assert KIND.flaws("group://other", options) == []


NOW = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)


def probed(statuses: dict[str, str], *, age_ms: int = 0) -> Any:  # noqa: ANN401  # a measurement
    target = Target("all", "group", "group://x", 60_000, 5_000, GroupOptions(members=("all", "api", "web")), 0, 1)
    known = Known(statuses=statuses, as_of_ms=int(NOW.timestamp() * 1000) - age_ms)
    tools: Any = SimpleNamespace(known=known, clock=lambda: NOW)
    return asyncio.run(probe(target, tools))


def test_a_check_reads_the_members_and_never_itself() -> None:
    """Mutant seen red: its own status counted, so that a group that was once down stayed so."""
    assert probed({"all": "mo", "api": "o", "web": "o"}).outcome is Outcome.HEALTHY
    assert probed({"api": "o"}).error_message == "no data: web"


def test_statuses_that_are_not_known_now_tell_nothing() -> None:
    assert probed({"api": "o", "web": "mo"}, age_ms=160_000).outcome is Outcome.FAILED
    assert probed({"api": "o", "web": "mo"}, age_ms=160_001).error_message == "not checked: the members' statuses are not known now"
