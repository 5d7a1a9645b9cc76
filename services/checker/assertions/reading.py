"""Assertions as people write them, made into what can be judged: once, when a definition is saved or loaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.checker.assertions import answers
from services.checker.assertions.answers import Look
from services.checker.assertions.comparisons import COMPARISONS, Comparison, Holds
from services.checker.assertions.patterns import MAX_PROPERTY, NotUsable, css_selector, json_path
from services.checker.domain.kinds import Flaw, Kind, Source
from shared.contracts.codes import AssertionSeverity

MAX_ASSERTIONS = 50
FIELDS = ("source", "property", "comparison", "target", "severity")
WITHOUT_TARGET = frozenset({"exists", "not_exists"})

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
"""A token: RFC 9110, 5.6.2."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """One assertion, compiled. `look` finds what it is about; `holds` says whether that is as it must be (None: cannot be told)."""

    source: str
    property: str
    comparison: str
    target: str | float | bool | None
    severity: AssertionSeverity
    look: Look = field(repr=False, compare=False)
    holds: Holds = field(repr=False, compare=False)

    def written(self) -> dict[str, Any]:
        """Return it as it is written in a definition, with every field."""
        return {name: getattr(self, name) for name in FIELDS}


def read_assertions(written: Any, kind: Kind) -> tuple[tuple[Assertion, ...], list[Flaw]]:  # noqa: ANN401  # JSON
    """Return the compiled assertions and every flaw ("assertions.0.comparison"), for a kind that offers certain sources.

    With any flaw there are no assertions at all: half of them would call good what is not.
    """
    if not isinstance(written, list | tuple):
        return (), [Flaw("assertions", "must be a list")]
    if len(written) > MAX_ASSERTIONS:
        return (), [Flaw("assertions", f"must be {MAX_ASSERTIONS} at most")]
    read: list[Assertion] = []
    flaws: list[Flaw] = []
    for place, one in enumerate(written):
        result = _read(one, kind)
        if isinstance(result, Assertion):
            read.append(result)
        else:
            flaws += [Flaw(f"assertions.{place}{flaw.field}", flaw.reason) for flaw in result]
    return ((), flaws) if flaws else (tuple(read), [])


def _read(one: Any, kind: Kind) -> Assertion | list[Flaw]:  # noqa: ANN401  # JSON
    """Return an assertion, or its flaws with their fields as ".target"."""
    if not isinstance(one, Mapping):
        return [Flaw("", 'must be an object, as in {"source": "code", "comparison": "equals", "target": 200}')]
    flaws = [Flaw(f".{str(name)[:50]}", "is not a field of an assertion") for name in one if name not in FIELDS]
    flaws += [Flaw(f".{name}", "is required") for name in ("source", "comparison") if name not in one]
    severity = _choice(one.get("severity", AssertionSeverity.DOWN), AssertionSeverity.__members__.values())
    if severity is None:
        flaws.append(Flaw(".severity", f"must be one of {', '.join(AssertionSeverity)}"))
    source = _choice(one.get("source"), kind.sources)
    if source is None and "source" in one:
        offered = f"must be one of {', '.join(kind.sources)}" if kind.sources else f"cannot be used: a {kind.name} check offers none"
        flaws.append(Flaw(".source", offered))
    comparison = _choice(one.get("comparison"), COMPARISONS)
    if comparison is None and "comparison" in one:
        flaws.append(Flaw(".comparison", f"must be one of {', '.join(COMPARISONS)}"))
    if source is None:
        return flaws
    offers = kind.sources[source]
    look = _looked(source, offers, one.get("property", ""), flaws)
    holds = _held(COMPARISONS[comparison], comparison, offers, one, flaws) if comparison is not None else None
    if flaws or look is None or holds is None or comparison is None or severity is None:
        return flaws
    return Assertion(source, one.get("property", ""), comparison, one.get("target"), AssertionSeverity(severity), look, holds)


def _choice(value: Any, choices: Any) -> str | None:  # noqa: ANN401  # JSON, and any collection of texts
    return value if isinstance(value, str) and value in choices else None


def _looked(source: str, offers: Source, name: Any, flaws: list[Flaw]) -> Look | None:  # noqa: ANN401  # JSON
    try:
        return _look(source, offers, name)
    except NotUsable as reason:
        flaws.append(Flaw(".property", str(reason)))
        return None


def _look(source: str, offers: Source, name: Any) -> Look:  # noqa: ANN401, C901, PLR0911  # JSON; one line per source
    """Return how to look at a source. Raises `NotUsable` for a property that does not fit it."""
    if not isinstance(name, str) or len(name) > MAX_PROPERTY or _UNSTORABLE.search(name):
        msg = f"must be text of at most {MAX_PROPERTY} characters"
        raise NotUsable(msg)
    if offers.properties is not None and name not in (offers.properties or ("",)):
        msg = f"must be one of {', '.join(offers.properties)}" if offers.properties else f"must be left out: {source} has none"
        raise NotUsable(msg)
    match source:
        case "code":
            return answers.code
        case "response_time":
            return answers.response_time
        case "phase":
            return answers.phase(name)
        case "body":
            return answers.body
        case "json":
            return json_path(name)
        case "html":
            if name:
                css_selector(name)
            return answers.html(name)
        case "header":
            if not _HEADER_NAME.fullmatch(name):
                msg = "must be the name of a header, as in content-type"
                raise NotUsable(msg)
            return answers.header(name)
    if offers.properties is None and not name:
        msg = "is required: say which"
        raise NotUsable(msg)
    return answers.value(source, name)


def _held(comparison: Comparison, name: str, offers: Source, one: Mapping[str, Any], flaws: list[Flaw]) -> Holds | None:
    if offers.type not in comparison.types:
        fitting = ", ".join(other for other, made in COMPARISONS.items() if offers.type in made.types)
        flaws.append(Flaw(".comparison", f"does not fit a {offers.type}; those that do: {fitting}"))
        return None
    target = one.get("target")
    if "target" not in one and name not in WITHOUT_TARGET:
        flaws.append(Flaw(".target", "is required: what to compare with"))
        return None
    if isinstance(target, str) and _UNSTORABLE.search(target):
        flaws.append(Flaw(".target", "has characters that cannot be stored"))
        return None
    try:
        return comparison.compile(target, offers.type)
    except NotUsable as reason:
        flaws.append(Flaw(".target", str(reason)))
        return None
