"""Options of every kind: whatever is written is read or refused in plain words, and no reader ever breaks."""

import re
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from services.checker.domain.definition import Definition, define
from services.checker.domain.hosts import HostRules
from services.checker.drafts import LANGUAGE
from services.checker.probes import KINDS
from services.checker.probes.options import Options, reader

Schema = dict[str, Any]

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
telling = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "a" * 300,
        "***",
        "* * * * *",
        "Europe/Berlin",
        "UTC",
        "(",
        "^(a+)+$",
        "\0",
        "\ud800",
        "::1",
        "127.0.0.1",
        "a b",
        "ü",
        "$",
        "8.8.8.8",
    ]
)
"""Texts at which validators of names, patterns, addresses, cron expressions and zones stumble."""


def likely(schema: Schema, whole: Schema) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911  # one line per type
    """Return values of about the right form, so that what lies behind the form is reached as well."""
    if "$ref" in schema:
        return likely(whole["$defs"][schema["$ref"].rsplit("/", 1)[-1]], whole)
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of(*(likely(one, whole) for one in alternatives))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "integer":
            return st.integers(schema.get("minimum", -5), schema.get("maximum", 70_000)) | st.integers()
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "string":
            pattern = schema.get("pattern")
            formed = st.from_regex(pattern, fullmatch=True) if pattern else st.text(max_size=30)
            return st.just(schema.get("default") or "") | telling | formed
        case "array":
            return st.lists(likely(schema.get("items", {}), whole), max_size=4)
        case "object" if "properties" in schema:
            return st.fixed_dictionaries({}, optional={name: likely(one, whole) for name, one in schema["properties"].items()})
        case "object":
            inner = schema.get("additionalProperties")
            return st.dictionaries(st.text(max_size=8) | telling, likely(inner, whole) if isinstance(inner, dict) else anything, max_size=3)
    return anything


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(data=st.data())
def test_whatever_is_written_is_read_or_refused(kind: Any, data: st.DataObject) -> None:  # noqa: ANN401  # a Kind, by its id
    """Seen red with a validator that raises KeyError."""
    schema = dict(kind.schema)
    names = st.sampled_from(sorted(schema["properties"])) if schema.get("properties") else st.text(max_size=8)
    written = data.draw(likely(schema, schema) | st.dictionaries(names | st.text(max_size=8), anything, max_size=5))
    options, flaws = kind.read(written)
    assert (options is None) == bool(flaws)
    assert len({flaw.field for flaw in flaws}) == len(flaws)
    for flaw in flaws:
        assert flaw.field.partition(".")[0] == "options"
        assert flaw.reason.strip()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(data=st.data())
def test_a_definition_of_any_kind_is_judged(kind: Any, data: st.DataObject) -> None:  # noqa: ANN401  # a Kind, by its id
    schema = dict(kind.schema)
    options = data.draw(likely(schema, schema))
    scheme = data.draw(st.sampled_from(kind.schemes))
    rest = data.draw(
        st.sampled_from(["host", "host:1", "127.0.0.1:5", "host/x", "[::1]:1/y", "host:1/a?b#c", "h/%zz", "h:1/%00"]) | st.text(max_size=9)
    )
    values = {"id": "x", "name": "x", "kind": kind.name, "endpoint_url": f"{scheme}://{rest}", "options": options}
    judged = define(values, HostRules(), LANGUAGE)
    assert isinstance(judged, Definition) or judged.flaws


class Way(Options):
    """A part of the options below."""

    how: Literal["fast", "slow"]
    times: int = Field(default=1, ge=1, le=10)


class Sample(Options):
    """Options of every form."""

    method: Literal["GET", "HEAD"] = "GET"
    port: int = Field(default=1, ge=1, le=65_535)
    above: float = Field(default=1, gt=0)
    flag: bool = False
    name: str = Field(default="a", min_length=1, max_length=5)
    key: SecretStr | None = Field(default=None, min_length=1)
    codes: tuple[int | str, ...] = Field(default=(), max_length=2)
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    way: Way | None = None
    form: str = Field(default="", pattern="^[a-z]*$")


@pytest.mark.parametrize(
    ("written", "field", "reason"),
    [
        ({"method": "get"}, "method", "must be one of GET, HEAD"),
        ({"port": 0}, "port", "must be a whole number from 1 to 65535"),
        ({"port": "80"}, "port", "must be a whole number from 1 to 65535"),
        ({"port": 1.5}, "port", "must be a whole number from 1 to 65535"),
        ({"above": 0}, "above", "must be a number above 0"),
        ({"flag": 1}, "flag", "must be true or false"),
        ({"name": ""}, "name", "must be text of 1 to 5 characters"),
        ({"name": None}, "name", "must be text of 1 to 5 characters"),
        ({"key": 7}, "key", "must be text of at least 1 characters or null"),
        ({"codes": 200}, "codes", "must be a list of at most 2"),
        ({"codes": [1, None]}, "codes.1", "must be a whole number or text"),
        ({"codes": [1, 2, 3]}, "codes", "must be a list of at most 2"),
        ({"headers": {"a": 1}}, "headers.a", "must be text"),
        ({"headers": []}, "headers", "must be an object of text by name"),
        ({"way": {"how": "odd"}}, "way.how", "must be one of fast, slow"),
        ({"way": {}}, "way.how", "is required"),
        ({"way": {"how": "fast", "times": 11}}, "way.times", "must be a whole number from 1 to 10"),
        ({"way": {"how": "fast", "colour": 1}}, "way.colour", "is not an option of this kind"),
        ({"way": 1}, "way", "must be an object or null"),
        ({"form": "A"}, "form", "must be text of the form ^[a-z]*$"),
        ({"colour": 1}, "colour", "is not an option of this kind"),
    ],
)
def test_a_refusal_says_what_would_be_right(written: dict[str, Any], field: str, reason: str) -> None:
    options, flaws = reader(Sample)(written)
    assert options is None
    assert [(flaw.field, flaw.reason) for flaw in flaws] == [(f"options.{field}", reason)]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_option_is_described_and_every_secret_is_write_only(kind: Any) -> None:  # noqa: ANN401  # a Kind, by its id
    for part in (kind.schema, *kind.schema.get("$defs", {}).values()):
        for name, one in part.get("properties", {}).items():
            assert one.get("description"), f"{kind.name}: {name} has no docstring"
            text = str(one)
            if re.search(r"(?i)password|secret|bearer", name):
                assert "'writeOnly': True" in text, f"{kind.name}: {name} is no SecretStr"
