"""How plans and trials look."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import click
import pytest

from infra.ops import commands_checks
from infra.ops.errors import OpsError
from infra.ops.printing import plan_lines, trial_lines
from shared.contracts.checks import CheckResult
from shared.contracts.codes import AssertionSeverity
from shared.contracts.commands import AssertionVerdict, FieldChange, Plan, PlannedAction, PlannedChange, Trial
from shared.contracts.services import Assertion

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def plain(lines: Any) -> list[str]:  # noqa: ANN401  # of lines
    return [click.unstyle(line) for line in lines]


def test_a_plan_is_a_diff_and_what_is_unchanged_only_counts() -> None:
    plan = Plan(
        applied=False,
        changes=(
            PlannedChange(id="a", action=PlannedAction.CREATE, fields=(FieldChange(field="name", after="A"),)),
            PlannedChange(id="b", action=PlannedAction.CHANGE, fields=(FieldChange(field="regions", before=[], after=["eu"]),)),
            PlannedChange(id="c", action=PlannedAction.REMOVE),
            PlannedChange(id="d", action=PlannedAction.UNCHANGED),
        ),
    )
    assert plain(plan_lines(plan)) == [
        "+ a",
        "    name: A",
        "~ b",
        '    regions: [] → ["eu"]',
        "- c",
        "Plan: 1 to create, 1 to change, 1 to remove, 1 unchanged.",
    ]
    assert plain(plan_lines(Plan(changes=plan.changes[3:], applied=False))) == ["Nothing to do: 1 unchanged."]


def trial(**more: Any) -> Trial:  # noqa: ANN401  # fields of a result
    values = {"id": uuid4(), "service_id": "x", "region": "here", "scheduled_at": NOW, "checked_at": NOW, "outcome": "healthy"}
    held = AssertionVerdict(assertion=Assertion(source="code", comparison="equals", target=200), holds=True, found="200")
    slow = Assertion(source="phase", property="tls", comparison="less_than", target=5, severity=AssertionSeverity.DEGRADED)
    return Trial(
        result=CheckResult.model_validate(values | more), assertions=(held, AssertionVerdict(assertion=slow, holds=False, found="20\n ms"))
    )


def test_a_trial_is_a_waterfall_with_every_verdict() -> None:
    phases = {"name_lookup_ms": 10.0, "connect_ms": 10.0, "tls_ms": 20.0, "first_byte_ms": 40.0, "total_ms": 80.0}
    lines = plain(trial_lines(trial(phases=phases, status_code=200, details={"loss": 0}), title="http x"))
    bars = [line[27:67] for line in lines[1:5]]
    assert [(bar.find("█"), bar.count("█")) for bar in bars] == [(0, 5), (5, 5), (10, 10), (20, 20)]
    assert lines[5].split() == ["in", "all", "80.0", "ms"]
    assert lines[6:] == [
        "  ✓ code equals 200: found 200",
        "  ✗ phase tls less_than 5 (else degraded): found 20 ms",
        "  loss: 0",
        "  healthy (code 200)",
    ]


@pytest.mark.parametrize("phases", [{}, {"total_ms": 0.0}, {"connect_ms": 3.0, "total_ms": 2.0}, {"name_lookup_ms": 1.0, "total_ms": 9.0}])
def test_any_times_can_be_drawn(phases: dict[str, float]) -> None:
    lines = plain(trial_lines(trial(phases=phases, outcome="failed", error_message="refused, while connecting"), title="x"))
    assert lines[-1] == "  failed: refused, while connecting"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("code equals 200", {"source": "code", "comparison": "equals", "target": 200}),
        ("json $.status equals ok", {"source": "json", "property": "$.status", "comparison": "equals", "target": "ok"}),
        ("json $.status exists", {"source": "json", "property": "$.status", "comparison": "exists"}),
        ("body contains 'two words'", {"source": "body", "comparison": "contains", "target": "two words"}),
        ("header x-a equals equals", {"source": "header", "property": "x-a", "comparison": "equals", "target": "equals"}),
        ("body frobs x", {"source": "body", "comparison": "frobs", "target": "x"}),
    ],
)
def test_an_assertion_is_divided_at_its_comparison(text: str, expected: dict[str, Any]) -> None:
    assert commands_checks._assertion(text, "http", AssertionSeverity.DOWN) == expected | {"severity": "down"}  # noqa: SLF001  # the reader itself


@pytest.mark.parametrize("text", ["", "code", "'"])
def test_an_assertion_without_a_comparison_is_refused(text: str) -> None:
    with pytest.raises(OpsError, match="--assert is"):
        commands_checks._assertion(text, "http", AssertionSeverity.DOWN)  # noqa: SLF001


@pytest.mark.parametrize(
    ("url", "kind"), [("https://x", "http"), ("tcp://x:1", "tcp"), ("wss://x", "websocket"), ("postgresql://x/y", "postgres")]
)
def test_the_scheme_says_the_kind(url: str, kind: str) -> None:
    assert commands_checks._kind_of(url) == kind  # noqa: SLF001
