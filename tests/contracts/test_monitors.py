"""What is published for those who write definitions in files: the schema, the page of kinds, and the examples that they copy."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from services.checker.domain.definition import FIELDS, Definition, define
from services.checker.domain.hosts import HostRules
from services.checker.drafts import LANGUAGE
from services.checker.probes import KINDS
from tests.contracts import monitors
from tests.contracts.schemas import as_text

GUIDE = (Path(__file__).parents[2] / "docs" / "monitors.md").read_text(encoding="utf-8")
FILES: list[dict[str, Any]] = [
    yaml.safe_load(re.sub(r"\$\{\w+:-(\w+)\}", r"\1", block)) for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
]
SERVICES = {service["id"]: service for file in FILES for service in file["services"]}
VALIDATOR = Draft202012Validator(monitors.schema())


def problems(service: dict[str, Any]) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors({"services": [service]})]


def test_the_committed_schema_is_what_the_code_means() -> None:
    """`python -m tests.contracts.monitors` writes it. Seen red with an option's bound changed."""
    assert monitors.SCHEMA.read_text(encoding="utf-8") == as_text(monitors.schema())


def test_the_committed_page_of_kinds_is_what_the_code_means() -> None:
    """`python -m tests.contracts.monitors` writes it. Seen red with an option's description changed."""
    assert monitors.PAGE.read_text(encoding="utf-8") == monitors.page()


def test_the_schema_is_one_and_knows_every_field() -> None:
    Draft202012Validator.check_schema(monitors.schema())
    assert set(monitors.FIELDS) == set(FIELDS)
    assert {name for name in FIELDS if f"`{name}`" not in GUIDE} == set()


def test_there_is_an_example_of_every_kind() -> None:
    assert {service.get("kind", "http") for service in SERVICES.values()} == set(KINDS)


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_an_example_is_accepted_by_the_schema_and_by_the_checker(service: dict[str, Any]) -> None:
    assert problems(service) == []
    judged = define(service, HostRules(), LANGUAGE)
    assert isinstance(judged, Definition), judged.flaws


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_what_the_checker_refuses_in_an_example_the_schema_does_not_let_through(service: dict[str, Any]) -> None:
    """For flaws that a schema can see: a strange field or option, an address of another kind, a source that the kind does not have."""
    for path, value in (
        (("colour",), "red"),
        (("options", "colour"), "red"),
        (("endpoint_url",), "gopher://example.com:70"),
        (("assertions",), [{"source": "colour", "comparison": "equals", "target": "red"}]),
        (("check_interval",), 999),
        (("regions",), ["a", "a"]),
    ):
        spoilt = copy.deepcopy(service)
        place = spoilt
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
        assert not isinstance(define(spoilt, HostRules(), LANGUAGE), Definition), path
        assert problems(spoilt), path


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_a_kind_needs_and_takes_is_the_same_in_the_schema(kind: Any) -> None:  # noqa: ANN401  # a Kind, by its id
    """Each option alone, with its default: the schema takes it."""
    example = next(service for service in SERVICES.values() if service.get("kind", "http") == kind.name)
    for name, option in kind.schema.get("properties", {}).items():
        if "default" in option:
            options = {**example.get("options", {}), name: option["default"]}
            assert problems({**example, "options": options}) == [], json.dumps(options)


def test_variables_and_the_writers_own_keys_may_stand_in_a_file() -> None:
    """Before they are filled in: what an editor sees."""
    service = {**SERVICES["api"], "timeout": "${TIMEOUT:-5000}", "is_active": "${ON}", "endpoint_url": "${API}/health"}
    assert problems(service) == []
    assert not list(VALIDATOR.iter_errors({"x-often": {"check_interval": 1000}, "services": [service]}))
    assert problems({**service, "timeout": "5 s"})
