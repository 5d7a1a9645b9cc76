"""`sla-monitor apply`, `export` and `check`: definitions as code, and a check that is run once, here.

Exit codes, for CI: 0 done or nothing to do; 1 not reached or refused, or the check found no health; 2 what was written cannot be used;
3 with `--exit-code`: there is something to do.
"""

import asyncio
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from infra.ops import monitors
from infra.ops.errors import OpsError
from infra.ops.monitors import Written
from infra.ops.printing import plan_lines, trial_lines
from infra.ops.rest import NotValid, Rest, signed_in, spoken
from infra.ops.settings import RestSettings
from services.checker import usecases as checker
from services.checker.settings import CheckerSettings
from services.checker.trials import check_once
from shared.contracts.codes import AssertionSeverity, Outcome
from shared.contracts.commands import Plan, PlannedAction, Trial
from shared.rpc import Refused
from shared.settings import load

PENDING = 3
MOST_SHOWN = 50
DEFAULT_TIMEOUT_MS = 10_000

Paths = Annotated[list[Path], typer.Argument(help="YAML files, or folders of them")]


def apply(
    paths: Paths,
    *,
    prune: Annotated[bool, typer.Option("--prune", help="Remove every service that is not written there")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="With --dry-run: exit code 3 if there is something to do")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Make the services what the files say: show the plan, ask, apply all of it or nothing."""
    written = monitors.read(paths)
    if prune and not written:
        message = "no service is written there, so --prune would remove every one: that is not done this way"
        raise OpsError(message)
    with spoken(), signed_in(load(RestSettings)) as rest:
        at_once = yes and not dry_run  # nobody is asked, so there is nothing to look at first: one judgement of all, not two
        plan = _ask(rest, written, prune=prune, dry_run=not at_once)
        for line in plan_lines(plan):
            typer.echo(line)
        if all(change.action is PlannedAction.UNCHANGED for change in plan.changes):
            return
        if dry_run:
            raise typer.Exit(PENDING if exit_code else 0)
        if at_once:
            typer.echo("Applied.")
            return
        _confirm()
        applied = _ask(rest, written, prune=prune, dry_run=False)
        if applied.changes != plan.changes:
            typer.echo("Somebody changed services meanwhile; what was done:")
            for line in plan_lines(applied):
                typer.echo(line)
        typer.echo("Applied.")


def export(
    output: Annotated[Path | None, typer.Option(help="The file to write; without it standard output")] = None,
) -> None:
    """Write all services as YAML that `apply` takes. Secrets are masked, and a mask keeps what is stored."""
    with spoken(), signed_in(load(RestSettings)) as rest:
        listed = rest.get("/api/v1/services?fresh=true")
    text = monitors.write(listed["services"])
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


def check(
    what: Annotated[str, typer.Argument(help="An address, as https://host/path or tcp://host:port; or a YAML file")],
    *,
    only: Annotated[str | None, typer.Option("--id", help="Of a file: this service only")] = None,
    kind: Annotated[str | None, typer.Option(help="Of an address: how it is checked; without it what its scheme says")] = None,
    option: Annotated[list[str] | None, typer.Option(help="name=value, the value as JSON or plain text")] = None,
    assertion: Annotated[list[str] | None, typer.Option("--assert", help="As 'json $.status equals ok'")] = None,
    degraded: Annotated[list[str] | None, typer.Option("--assert-degraded", help="The same, degraded if it does not hold")] = None,
    timeout: Annotated[int, typer.Option(help="Of an address: milliseconds for the whole check")] = DEFAULT_TIMEOUT_MS,
) -> None:
    """Run a check once, from here, without any server, and show where the time went and how each assertion fared."""
    if "://" in what:
        chosen = kind or _kind_of(what)
        asked = [(one, AssertionSeverity.DOWN) for one in assertion or ()] + [(one, AssertionSeverity.DEGRADED) for one in degraded or ()]
        values: dict[str, Any] = {
            "kind": chosen,
            "endpoint_url": what,
            "timeout": timeout,
            "options": dict(_option(one) for one in option or ()),
            "assertions": [_assertion(text, chosen, severity) for text, severity in asked],
        }
        definitions = [values]
    else:
        definitions = [one.values for one in monitors.read([Path(what)]) if only in {None, one.values.get("id")}]
    if not definitions:
        message = "there is no such service in it"
        raise OpsError(message)
    outcomes = [_checked(one) for one in definitions]
    if any(outcome is not Outcome.HEALTHY for outcome in outcomes):
        raise typer.Exit(1)


def _ask(rest: Rest, written: list[Written], *, prune: bool, dry_run: bool) -> Plan:
    body = {"definitions": [one.values for one in written], "prune": prune, "dry_run": dry_run}
    try:
        return Plan.model_validate(rest.post("/api/v1/services/apply", body))
    except NotValid as error:
        lines = monitors.located(error.problems, written)
        more = [f"… and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
        raise OpsError("\n".join([str(error), *lines[:MOST_SHOWN], *more])) from None


def _confirm() -> None:
    if not sys.stdin.isatty():
        message = "there is no terminal to ask at: say --yes, or --dry-run"
        raise OpsError(message)
    if not typer.confirm("Apply this?"):
        typer.echo("Nothing was changed.")
        raise typer.Exit(1)


def _checked(values: Mapping[str, Any]) -> Outcome:
    # Only its rules about hosts and its authorities are of interest; it has neither database nor broker here.
    nowhere = SecretStr("")
    settings = CheckerSettings(database_url=nowhere, broker_url=nowhere)
    proxies = frozenset(settings.allowed_proxies)
    try:
        trial: Trial = asyncio.run(check_once(values, rules=settings.host_rules, ca_file=settings.ca_file, proxies=proxies))
    except Refused as refused:
        name = values.get("id", values.get("endpoint_url", "the check"))
        lines = [f"{name}: {one.field} {one.reason}" for one in refused.problem.errors] or [f"{name}: {refused.problem.detail}"]
        raise OpsError("\n".join(lines)) from None
    for line in trial_lines(trial, title=" ".join(str(values[name]) for name in ("id", "kind", "endpoint_url") if name in values)):
        typer.echo(line)
    return trial.result.outcome


def _kind_of(url: str) -> str:
    scheme = url.partition("://")[0].lower()
    by_scheme: dict[str, str] = {}
    for one in checker.kinds().kinds:
        for known in re.findall(r"([a-z0-9+.-]+)://", one.endpoint):
            by_scheme.setdefault(known, one.name)
    if scheme not in by_scheme:
        message = f"nothing checks {scheme}://; there are {', '.join(f'{one}://' for one in by_scheme)}"
        raise OpsError(message)
    return by_scheme[scheme]


def _option(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        message = f"--option is name=value, not {text!r}"
        raise OpsError(message)
    return name, _json_or_text(value)


def _assertion(text: str, kind: str, severity: AssertionSeverity) -> dict[str, Any]:
    """Read `source [property] comparison [target]`: the first word that is a comparison divides it."""
    try:
        source, *words = shlex.split(text)
    except ValueError:
        source, words = text, []
    if not words:
        message = f"--assert is 'source [property] comparison [target]', not {text!r}"
        raise OpsError(message)
    known = checker.LANGUAGE.kinds.get(kind)
    candidates = [_divided(source, words, place, severity) for place in range(len(words))]
    for one in candidates:
        if known is not None and not any(flaw.field.endswith(".comparison") for flaw in checker.LANGUAGE.read_assertions([one], known)[1]):
            return one
    return candidates[0]


def _divided(source: str, words: list[str], place: int, severity: AssertionSeverity) -> dict[str, Any]:
    one: dict[str, Any] = {"source": source, "comparison": words[place], "severity": severity.value}
    if place:
        one["property"] = " ".join(words[:place])
    if words[place + 1 :]:
        one["target"] = _json_or_text(" ".join(words[place + 1 :]))
    return one


def _json_or_text(text: str) -> Any:  # noqa: ANN401  # JSON
    try:
        return json.loads(text)
    except ValueError:
        return text
