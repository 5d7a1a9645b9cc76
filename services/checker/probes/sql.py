"""What the SQL databases have in common: a sign-in, one small query, and what its first value should be."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr

from services.checker.domain.kinds import Flaw, Kind, Source
from services.checker.domain.target import Facts, Measurement, Target
from services.checker.probes import line as carrying
from services.checker.probes.dial import Dialled, dial
from services.checker.probes.line import Line
from services.checker.probes.options import reader
from services.checker.probes.secure import DatabaseTls
from services.checker.probes.talk import Talk, talking
from services.checker.probes.tools import Probe, Tools
from shared.contracts.codes import ErrorType

MAX_VALUE = 1_000
"""Characters of a value that assertions see."""

SOURCES = {"value": Source("text"), "number": Source("number")}
"""The first column of the answer's first row: as text, and as a number if it is one."""

_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?")


class SqlOptions(DatabaseTls):
    """How to sign in to a database, and what to ask."""

    username: str = Field(default="", max_length=200)
    """Who signs in. A role that may read what the query needs, and nothing else, is enough."""
    password: SecretStr = SecretStr("")
    """The password."""
    query: str = Field(default="select 1", min_length=1, max_length=2_000)
    """One statement, run in a read-only transaction that is never committed. Its time is the response time."""
    expected: str | None = Field(default=None, max_length=MAX_VALUE)
    """What the first column of the first row must be, as text; null: anything, no row too."""


Over = Callable[[Talk, Tools, Dialled, SqlOptions], Awaitable[Measurement]]
"""Asks a database over a connection that is open."""


def kind_of(name: str, title: str, scheme: str, endpoint: str, *, needs_database: bool) -> Kind:
    """Return the kind of a database. `needs_database`: its address must name one."""
    return Kind(
        name,
        title,
        (scheme,),
        endpoint,
        reader(SqlOptions),
        SqlOptions.model_json_schema(),
        sources={**carrying.SOURCES, **SOURCES},
        flaws=flaws_of(endpoint, required=needs_database),
    )


def prober(over: Over, *, port: int) -> Probe:
    """Return the probe of a database: it connects, by default to `port`, has `over` ask, and closes the connection."""

    async def ask(talk: Talk, tools: Tools) -> Measurement:
        way = await dial(talk, tools, default_port=port)
        with way.connection:
            return await over(talk, tools, way, talk.target.options)

    async def probe(target: Target, tools: Tools) -> Measurement:
        return await talking(target, tools, ask)

    return probe


def database_of(url: str) -> str:
    """Return the database that an address names."""
    return unquote(urlsplit(url).path.strip("/"))


def flaws_of(form: str, *, required: bool) -> Callable[[str, Any], list[Flaw]]:
    """Return the judge of a database's address."""

    def judge(url: str, _options: object) -> list[Flaw]:
        parts = urlsplit(url)
        name = database_of(url)
        strange = "/" in parts.path.strip("/") or "\x00" in name or parts.query or parts.fragment or (required and not name)
        return [Flaw("endpoint_url", f"must be {form}")] if strange else []

    return judge


def judged(line: Line, options: SqlOptions, value: object, *, query_ms: float, now: datetime) -> Measurement:
    """Return what an answer's first value means; None stands for no row and for null."""
    text, talk = as_text(value), line.talk
    facts, details = Facts(values=values_of(text) | line.shown(now)), {"tls": line.secure}
    if options.expected is not None and text != options.expected:
        # What was found may be anything that the database holds: it is not told on.
        words = "no value, another was expected" if text is None else "not the expected value"
        found = talk.unwell(ErrorType.ASSERTION_FAILED, words, facts=facts, details=details)
    else:
        found = talk.healthy(facts=facts, details=details)
    return replace(found, response_time_ms=query_ms)


def values_of(text: str | None) -> dict[str, Any]:
    """Return what assertions see of a value."""
    if text is None:
        return {}
    return {"value": text, "number": float(text)} if _NUMBER.fullmatch(text) else {"value": text}


def as_text(value: object) -> str | None:
    """Return a database's value as assertions see it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes | bytearray):
        return bytes(value[:MAX_VALUE]).decode("utf-8", "replace")
    return str(value)[:MAX_VALUE]
