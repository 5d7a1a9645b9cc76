"""`sla-monitor report`: the SLA report of a month, as a file.

Exit codes: 0 written; 1 not reached or refused (as where there is no such contract); 2 what was asked for cannot be.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from infra.ops.errors import OpsError
from infra.ops.rest import NotValid, signed_in, spoken
from infra.ops.settings import RestSettings
from shared.settings import load


class Form(StrEnum):
    """What a report may be."""

    PDF = "pdf"
    HTML = "html"
    CSV = "csv"
    JSON = "json"


class Language(StrEnum):
    """What it may be written in."""

    KO = "ko"
    EN = "en"


class Rows(StrEnum):
    """What a line of the CSV is."""

    SERVICES = "services"
    OUTAGES = "outages"


def report(
    contract: Annotated[str, typer.Argument(help="The id of an SLA contract")],
    *,
    month: Annotated[str | None, typer.Option(help="The first of the window, as 2026-03; without it the last window that ended")] = None,
    first_day: Annotated[
        str | None, typer.Option(help="The same as a day, as 2026-03-15: a rolling window of the past may begin on any")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="What to write")] = Form.PDF,
    language: Annotated[Language, typer.Option(help="Of PDF and HTML")] = Language.EN,
    rows: Annotated[Rows, typer.Option(help="Of CSV: a line per service, or per outage")] = Rows.SERVICES,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; without it standard output")] = None,
) -> None:
    """Write the SLA report of a window: target, uptime, budget, every outage, what was left out or corrected, and the digest."""
    if output is None and form is Form.PDF and sys.stdout.isatty():
        message = "a PDF is nothing for a terminal: say --output FILE"
        raise OpsError(message)
    asked = {"format": form.value, "language": language.value, "rows": rows.value}
    asked |= {name: value for name, value in (("month", month), ("first_day", first_day)) if value}
    with spoken(), signed_in(load(RestSettings)) as rest:
        try:
            body = rest.fetch(f"/api/v1/sla/contracts/{quote(contract, safe='')}/report", asked)
        except NotValid as error:
            raise OpsError("\n".join([str(error), *(f"{one.field} {one.reason}" for one in error.problems)])) from None
    _write(body, output)


def _write(body: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.write(body)
        return
    try:
        output.write_bytes(body)
    except OSError as error:
        message = f"{output} cannot be written: {error.strerror}"
        raise OpsError(message) from None
