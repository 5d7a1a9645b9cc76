"""The committed schemas: equal to the code, and changed only in ways that break no reader."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.breaking import breaks
from tests.contracts.document import PAGE, matches, page
from tests.contracts.regenerate import problems, write
from tests.contracts.schemas import SCHEMAS, Schema, as_text, committed, generated

Change = Callable[[Schema], Any]
STATUS = "service.status_changed.v1"
BATCH = "checks.measured.v1"


def test_no_change_since_the_committed_schemas_breaks_a_reader() -> None:
    """Seen red with `endpoint` taken out of CheckResult: says "data.results[].endpoint: the field was removed"."""
    assert problems(committed(), generated()) == []


@pytest.mark.parametrize("event_type", sorted(generated()))
def test_the_committed_schema_is_what_the_code_means(event_type: str) -> None:
    """Red alone, without the test above: an additive change, to be regenerated. Seen red with a new optional field."""
    assert (SCHEMAS / f"{event_type}.json").read_text(encoding="utf-8") == as_text(generated()[event_type])


def test_no_schema_is_committed_for_a_type_that_does_not_exist() -> None:
    assert set(committed()) == set(generated())


def test_the_page_of_events_is_what_the_registry_says() -> None:
    """Seen red with an edited sentence. `python -m tests.contracts.regenerate` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def part(name: str) -> Callable[[Schema], Schema]:
    """Return a way to one part of a schema."""
    return lambda schema: schema["$defs"][name]


def removed(name: str, field: str) -> Change:
    """Take a field away, from the demanded ones too."""

    def change(schema: Schema) -> None:
        target = part(name)(schema)
        del target["properties"][field]
        target["required"] = [one for one in target["required"] if one != field]

    return change


def added(name: str, field: str, *, required: bool) -> Change:
    """Put a new text field in."""

    def change(schema: Schema) -> None:
        target = part(name)(schema)
        target["properties"][field] = {"type": "string", "default": ""}
        target["required"] = target["required"] + [field] * required

    return change


def replaced(name: str, field: str, meaning: Schema) -> Change:
    """Give a field another type."""
    return lambda schema: part(name)(schema)["properties"].__setitem__(field, meaning)


BREAKING: list[tuple[str, str, Change, str]] = [
    ("a field goes", BATCH, removed("CheckResult", "endpoint"), "data.results[].endpoint: the field was removed"),
    ("a demanded field goes", STATUS, removed("ServiceStatus", "since"), "data.status.since: the field was removed"),
    ("a new field is demanded", STATUS, added("ServiceStatus", "why", required=True), "data.status.why: a new field is required"),
    (
        "an optional field is demanded",
        STATUS,
        lambda schema: part("ServiceStatus")(schema)["required"].append("previous"),
        "data.status.previous: the field became required",
    ),
    (
        "a demanded field is optional",
        STATUS,
        lambda schema: part("ServiceStatus")(schema)["required"].remove("version"),
        "data.status.version: the field became optional",
    ),
    (
        "null is no longer allowed",
        BATCH,
        replaced("CheckResult", "status_code", {"type": "integer"}),
        "data.results[].status_code: no longer allows null",
    ),
    (
        "null is newly allowed",
        STATUS,
        replaced("ServiceStatus", "version", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        "data.status.version: now also allows null",
    ),
    (
        "a number becomes whole",
        BATCH,
        replaced("Phases", "tls_ms", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        "data.results[].phases.tls_ms: no longer allows number",
    ),
    (
        "a time becomes any text",
        STATUS,
        replaced("ServiceStatus", "since", {"type": "string"}),
        "data.status.since: no longer allows string (date-time)",
    ),
    ("a value goes", STATUS, lambda schema: part("Status")(schema)["enum"].remove("nd"), "data.status.status: the value 'nd' was removed"),
    ("a value is new", STATUS, lambda schema: part("Status")(schema)["enum"].append("mt"), "data.status.status: the value 'mt' was added"),
    (
        "the list of values opens",
        STATUS,
        lambda schema: part("Status")(schema).pop("enum"),
        "data.status.status: the list of values changed",
    ),
    (
        "the constant changes",
        STATUS,
        lambda schema: schema["properties"]["type"].update(const="service.changed.v1"),
        "type: the constant changed",
    ),
    (
        "a list's items change",
        BATCH,
        replaced("CheckBatchV1", "results", {"type": "array", "items": {"type": "string"}}),
        "data.results[]: no longer allows object",
    ),
    (
        "a bound appears",
        STATUS,
        lambda schema: part("ServiceStatus")(schema)["properties"]["version"].update(minimum=1),
        "data.status.version: minimum changed",
    ),
]

ADDITIVE: list[tuple[str, str, Change]] = [
    ("a new optional field", STATUS, added("ServiceStatus", "why", required=False)),
    ("a new optional field deep inside", BATCH, added("CheckResult", "proxy", required=False)),
    ("other words", STATUS, lambda schema: schema.update(description="Said better.")),
    ("another order", BATCH, lambda schema: part("CheckResult")(schema)["required"].reverse()),
    (
        "a part under another name",
        STATUS,
        lambda schema: (
            schema["$defs"].__setitem__("State", schema["$defs"]["Status"]),
            part("ServiceStatus")(schema)["properties"]["status"].__setitem__("$ref", "#/$defs/State"),
        ),
    ),
]


@pytest.mark.parametrize(("event_type", "change", "sentence"), [case[1:] for case in BREAKING], ids=[case[0] for case in BREAKING])
def test_a_planted_breaking_change_is_named(event_type: str, change: Change, sentence: str) -> None:
    old = generated()[event_type]
    new = copy.deepcopy(old)
    change(new)
    assert any(found.startswith(sentence) for found in breaks(old, new)), breaks(old, new)


@pytest.mark.parametrize(("event_type", "change"), [case[1:] for case in ADDITIVE], ids=[case[0] for case in ADDITIVE])
def test_a_planted_additive_change_is_let_through(event_type: str, change: Change) -> None:
    old = generated()[event_type]
    new = copy.deepcopy(old)
    change(new)
    assert new != old
    assert breaks(old, new) == []


def test_a_removed_event_type_is_named() -> None:
    new = generated()
    del new[STATUS]
    assert problems(generated(), new) == [f"{STATUS}: the event type was removed"]


def test_regenerating_refuses_what_breaks_readers_and_writes_the_rest(tmp_path: Path) -> None:
    """Seen red with `write` not asking `problems`: the committed promise was overwritten in silence."""
    folder, file = tmp_path / "schemas", tmp_path / "events.md"
    assert write(folder, file) == []
    assert committed(folder) == generated()
    broken = generated()
    removed("ServiceStatus", "since")(broken[STATUS])
    assert write(folder, file, broken) == [f"{STATUS}: data.status.since: the field was removed"]
    assert committed(folder) == generated()
    grown = generated()
    added("ServiceStatus", "why", required=False)(grown[STATUS])
    assert write(folder, file, grown) == []
    assert committed(folder) == grown


@pytest.mark.parametrize(
    ("binding", "key", "taken"),
    [
        ("service.#", "service.removed.v1", True),
        ("service.removed.#", "service.updated.v1", False),
        ("checks.#", "service.updated.v1", False),
        ("a.v1", "a.v1", True),
    ],
)
def test_the_page_reads_bindings_as_the_broker_does(binding: str, key: str, *, taken: bool) -> None:
    assert matches(binding, key) is taken
