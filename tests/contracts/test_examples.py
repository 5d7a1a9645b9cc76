"""The golden examples: what other programs were shown, which must stay readable and stay what we write."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shared.contracts.registry import PAYLOADS, Undecodable, decode, encode
from tests.contracts.schemas import Schema, committed, examples

EXAMPLES = examples()
CASES = [pytest.param(event_type, path, id=f"{event_type}/{case}") for (event_type, case), path in EXAMPLES.items()]


def rewritten(event_type: str, body: bytes) -> Any:  # noqa: ANN401  # JSON
    """Return what our own reader and writer make of an event."""
    return json.loads(encode(decode(event_type, body)))


@pytest.mark.parametrize(("event_type", "path"), CASES)
def test_an_example_is_read_and_written_back_to_the_same_json(event_type: str, path: Path) -> None:
    """Seen red with rfc3339 writing microseconds: every example differed in its times."""
    body = path.read_bytes()
    assert rewritten(event_type, body) == json.loads(body)


@pytest.mark.parametrize(("event_type", "path"), CASES)
def test_an_example_fits_the_committed_schema(event_type: str, path: Path) -> None:
    event = json.loads(path.read_bytes())
    jsonschema.validate(event, committed()[event_type], format_checker=jsonschema.FormatChecker())
    assert event["type"] == event_type


@pytest.mark.parametrize(("event_type", "path"), CASES)
def test_a_field_that_we_do_not_know_is_ignored_everywhere(event_type: str, path: Path) -> None:
    """Seen red with extra="forbid" in Contract."""
    body = path.read_bytes()
    assert rewritten(event_type, json.dumps(with_unknown_fields(json.loads(body))).encode()) == json.loads(body)


def with_unknown_fields(value: Any) -> Any:  # noqa: ANN401  # JSON
    """Return the JSON with a field from the future in every object that a contract describes."""
    if isinstance(value, list):
        return [with_unknown_fields(one) for one in value]
    if not isinstance(value, dict):
        return value
    free = {"options", "metadata", "details"}  # their keys are the user's own
    grown = {key: one if key in free else with_unknown_fields(one) for key, one in value.items()}
    return grown | {"from_the_future": {"nested": [1]}}


def test_every_type_has_an_example_and_every_example_a_type() -> None:
    assert {event_type for event_type, _ in EXAMPLES} == set(PAYLOADS)


def test_every_value_of_every_code_is_shown_in_some_example() -> None:
    """So that a reader can be tried against each. Severities and priorities that only people give are named here as not shown."""
    shown = " ".join(path.read_text(encoding="utf-8") for path in EXAMPLES.values())
    not_shown = {"low", "high", "P2", "P4", "dns_error", "tls_error", "monitoring"}
    values = {value for schema in committed().values() for value in enum_values(schema)}
    assert {value for value in values if f'"{value}"' not in shown} == not_shown


def enum_values(schema: Schema) -> set[str]:
    """Return all values of all enumerations that a schema defines."""
    return {value for part in schema["$defs"].values() for value in part.get("enum", ())}


@pytest.mark.parametrize(
    ("event_type", "body", "reason"),
    [
        ("service.registered.v9", b"{}", "unknown event type 'service.registered.v9'"),
        ("service.removed.v1", b"not json", "the message: Invalid JSON"),
        ("service.removed.v1", b"{}", "service.removed.v1: id: Field required"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_field_at_fault(event_type: str, body: bytes, reason: str) -> None:
    with pytest.raises(Undecodable) as refused:
        decode(event_type, body)
    assert reason in str(refused.value)


def test_a_time_without_zone_is_refused() -> None:
    """Seen red without the check in _aware: the local time of the reader's machine was taken."""
    body = EXAMPLES["service.removed.v1", "by-an-admin"].read_text(encoding="utf-8").replace("T09:26:53.589Z", "T09:26:53.589")
    with pytest.raises(Undecodable, match="needs a time zone"):
        decode("service.removed.v1", body.encode())
