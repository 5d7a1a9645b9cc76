"""How a plan and a trial look on a terminal. Text only; colours are the terminal's affair."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import typer

from shared.contracts.checks import CheckResult
from shared.contracts.codes import AssertionSeverity, Outcome
from shared.contracts.commands import AssertionVerdict, Plan, PlannedAction, Trial
from shared.contracts.services import Assertion

MOST_CHARACTERS = 200
MOST_FOUND = 80
BAR = 40
SIGNS = {
    PlannedAction.CREATE: ("+", typer.colors.GREEN, "to create"),
    PlannedAction.CHANGE: ("~", typer.colors.YELLOW, "to change"),
    PlannedAction.REMOVE: ("-", typer.colors.RED, "to remove"),
}
COLOURS = {Outcome.HEALTHY: typer.colors.GREEN, Outcome.DEGRADED: typer.colors.YELLOW, Outcome.FAILED: typer.colors.RED}
PHASES = {
    "name_lookup_ms": "looking up the name",
    "connect_ms": "connecting",
    "tls_ms": "securing the connection",
    "first_byte_ms": "waiting for the answer",
}


def plan_lines(plan: Plan) -> Iterator[str]:
    """Give a plan as a diff: what is unchanged is only counted."""
    for change in plan.changes:
        if change.action is PlannedAction.UNCHANGED:
            continue
        sign, colour, _ = SIGNS[change.action]
        yield typer.style(f"{sign} {change.id}", fg=colour)
        for one in change.fields:
            before = "" if change.action is PlannedAction.CREATE else f"{_value(one.before)} → "
            yield f"    {one.field}: {before}{_value(one.after)}"
    yield plan_summary(plan)


def plan_summary(plan: Plan) -> str:
    """Return how many services a plan concerns, and how."""
    counts = Counter(change.action for change in plan.changes)
    parts = [f"{counts[action]} {words}" for action, (_, _, words) in SIGNS.items() if counts[action]]
    unchanged = f"{counts[PlannedAction.UNCHANGED]} unchanged"
    return f"Plan: {', '.join(parts)}, {unchanged}." if parts else f"Nothing to do: {unchanged}."


def trial_lines(trial: Trial, *, title: str) -> Iterator[str]:
    """Give what a check found: its phases as a waterfall, every assertion's verdict, the outcome."""
    result = trial.result
    yield typer.style(title, bold=True)
    yield from _waterfall(result)
    yield from (_verdict(one) for one in trial.assertions)
    if result.details:
        yield from (f"  {name}: {_value(value)}" for name, value in sorted(result.details.items()))
    code = "" if result.status_code is None else f" (code {result.status_code})"
    why = f": {result.error_message}" if result.error_message else ""
    yield typer.style(f"  {result.outcome}{code}{why}", fg=COLOURS.get(result.outcome))
    if result.evidence:
        yield "  the answer began with:"
        yield from (f"    {line}" for line in result.evidence.splitlines()[:10])


def _waterfall(result: CheckResult) -> Iterator[str]:
    times = [(words, getattr(result.phases, name)) for name, words in PHASES.items()]
    known = [(words, took) for words, took in times if took is not None]
    total = result.phases.total_ms if result.phases.total_ms is not None else result.response_time_ms
    if total is None:
        return
    rest = total - sum(took for _, took in known)
    if known and rest >= 0.05:  # noqa: PLR2004  # half of what is shown
        known.append(("reading the answer" if result.phases.first_byte_ms is not None else "then", rest))
    begun = 0.0
    scale = BAR / max(total, sum(took for _, took in known), 0.001)
    for words, took in known:
        start, end = round(begun * scale), max(round((begun + took) * scale), round(begun * scale) + 1)
        yield f"  {words:<24} {' ' * start + '█' * (end - start):<{BAR + 1}} {took:9.1f} ms"
        begun += took
    yield f"  {'in all':<24} {'':<{BAR + 1}} {total:9.1f} ms"


def _verdict(one: AssertionVerdict) -> str:
    sign = typer.style("✓", fg=typer.colors.GREEN) if one.holds else typer.style("✗", fg=typer.colors.RED)
    found = "" if not one.found else f": found {' '.join(one.found.split())[:MOST_FOUND]}"
    return f"  {sign} {assertion_text(one.assertion)}{found}"


def assertion_text(one: Assertion) -> str:
    """Return an assertion in a line, as `--assert` takes it."""
    target = "" if one.target is None else _value(one.target)
    degraded = "(else degraded)" if one.severity is AssertionSeverity.DEGRADED else ""
    return " ".join(part for part in (one.source, one.property, one.comparison, target, degraded) if part)


def _value(value: Any) -> str:  # noqa: ANN401  # JSON
    text = value if isinstance(value, str) and value.isprintable() and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"
