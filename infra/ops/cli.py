"""The `sla-monitor` command. What a person may mend ends it with one sentence on stderr and exit code 2."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from infra.ops import (
    commands_checks,
    commands_data,
    commands_demo,
    commands_reports,
    commands_secrets,
    commands_stack,
    envfile,
    programs,
    stack,
)
from infra.ops.errors import OpsError
from shared.runtime import CannotStart
from shared.settings import USAGE_ERROR, TelemetrySettings
from shared.telemetry import configure_logging

app = typer.Typer(
    help="Operate SLA Monitor: definitions as code, checks, SLA reports, local stack, database, dead letters, demo.",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(commands_stack.app, name="stack")
app.add_typer(commands_data.database, name="db")
app.add_typer(commands_data.users, name="user")
app.add_typer(commands_data.dead_letters, name="dead")
app.add_typer(commands_secrets.secrets, name="secrets")
app.command("apply")(commands_checks.apply)
app.command("export")(commands_checks.export)
app.command("check")(commands_checks.check)
app.command("report")(commands_reports.report)
app.command("demo")(commands_demo.demo)
app.command("demo-target")(commands_demo.demo_target)


@app.callback()
def _everywhere() -> None:
    """Take the local stack's settings where the environment names none."""
    # What the use cases note while seeding is for a service's log; here the command itself says what it did.
    configure_logging(TelemetrySettings(log_level="warning", log_format="console"), service="sla-monitor")
    for name, value in stack.settings_of(commands_stack.DEFAULT_FOLDER).items():
        os.environ.setdefault(name, value)


@app.command()
def env(folder: Annotated[Path, typer.Option(help="Where .env.example is")] = stack.ROOT) -> None:
    """Write .env with generated passwords, unless it exists."""
    made = envfile.make(folder)
    typer.echo(f"{folder / '.env'} written" if made else f"{folder / '.env'} exists and is left as it is")


@app.command()
def install(kinds: Annotated[list[str], typer.Argument(help=f"Any of {', '.join(programs.PACKAGES)}")]) -> None:
    """Install missing programs from Debian's packages, without starting any service."""
    unknown = [kind for kind in kinds if kind not in programs.PACKAGES]
    if unknown:
        message = f"unknown: {', '.join(unknown)}; there are {', '.join(programs.PACKAGES)}"
        raise OpsError(message)
    absent = programs.missing(kinds)
    if absent:
        began = time.monotonic()
        typer.echo(f"Installing {', '.join(absent)} …")
        programs.ensure(absent)
        typer.echo(f"  done ({time.monotonic() - began:.0f} s)")


def main() -> None:
    """Run the command."""
    try:
        app()
    except (OpsError, CannotStart) as error:
        print(f"sla-monitor: {error}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR) from None


if __name__ == "__main__":
    main()
