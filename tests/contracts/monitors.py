"""`python -m tests.contracts.monitors`: write docs/monitors.schema.json and docs/kinds.md anew, from the kinds of checks."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.checker.assertions.comparisons import COMPARISONS
from services.checker.assertions.reading import MAX_ASSERTIONS
from services.checker.domain import definition as rules
from services.checker.domain.kinds import Kind
from services.checker.probes import KINDS
from services.checker.probes.words import words
from shared.contracts.codes import AssertionSeverity
from tests.contracts.schemas import as_text

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA, PAGE = DOCS / "monitors.schema.json", DOCS / "kinds.md"

HEAD = """# Kinds of checks

Made by `python -m tests.contracts.monitors` from `services/checker/probes`: edit those, not this page.

A service's `kind` says how it is checked: what its `endpoint_url` is, which `options` there are, and what its `assertions` may look at
([the language of assertions](assertions.md); [definitions in a file](monitors.md)). Options marked *secret* are encrypted at rest and shown
as `********`; written back, that mask keeps the secret as long as kind and host stay the same.
"""

_INTERVAL = {"type": "integer", "minimum": rules.MIN_INTERVAL_MS, "maximum": rules.MAX_INTERVAL_MS}
_TIMEOUT = {"type": "integer", "minimum": 1, "maximum": rules.MAX_TIMEOUT_MS}
_THRESHOLD = {"type": "integer", "minimum": 1, "maximum": rules.MAX_THRESHOLD, "default": 2}
_ID = {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": rules.MAX_ID}
FIELDS: dict[str, dict[str, Any]] = {
    "id": {**_ID, "description": "Kebab-case. It stays for ever: another id is another service."},
    "name": {"type": "string", "minLength": 1, "maxLength": rules.MAX_NAME, "description": "Unique."},
    "display_name": {"type": "string", "minLength": 1, "maxLength": rules.MAX_NAME, "description": "As people see it; default: the name."},
    "display_name_ko": {"type": ["string", "null"], "maxLength": rules.MAX_NAME, "description": "The same in Korean."},
    "description": {"type": "string", "maxLength": rules.MAX_DESCRIPTION, "default": ""},
    "kind": {"enum": list(KINDS), "default": "http", "description": "How it is checked."},
    "endpoint_url": {"type": "string", "maxLength": rules.MAX_URL, "description": "Its address; the form follows from the kind."},
    "check_interval": {**_INTERVAL, "default": 60_000, "description": "Milliseconds from one check to the next."},
    "timeout": {**_TIMEOUT, "default": 5_000, "description": "Milliseconds that a check may take; shorter than check_interval."},
    "failure_threshold": {**_THRESHOLD, "description": "Failures in a row until it is down."},
    "recovery_threshold": {**_THRESHOLD, "description": "Successes in a row until it is up again."},
    "is_active": {"type": "boolean", "default": True, "description": "Whether it is checked."},
    "retry_interval_ms": {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": rules.MAX_INTERVAL_MS}, {"type": "null"}],
        "default": None,
        "description": "Milliseconds until a doubtful outcome is checked again, shorter than check_interval; null: a tenth of it.",
    },
    "degraded_after_ms": {
        "anyOf": [_TIMEOUT, {"type": "null"}],
        "default": None,
        "description": "An answer that takes longer is degraded, shorter than timeout; null: never.",
    },
    "regions": {
        "type": "array",
        "items": _ID,
        "uniqueItems": True,
        "maxItems": rules.MAX_REGIONS,
        "default": [],
        "description": "The regions that check it; empty: all.",
    },
    "quorum": {
        "type": "string",
        "pattern": "^(any|majority|all|[1-9][0-9]?)$",
        "default": "majority",
        "description": "How many of its regions must see it down for it to be down: any, majority, all, or a number.",
    },
    "depends_on": {
        "type": "array",
        "items": _ID,
        "uniqueItems": True,
        "maxItems": rules.MAX_DEPENDENCIES,
        "default": [],
        "description": "Services by id; while one of these is down, this one raises no alert of its own.",
    },
    "assertions": {"type": "array", "items": {"$ref": "#/$defs/assertion"}, "maxItems": MAX_ASSERTIONS, "default": []},
    "options": {"type": "object", "default": {}, "description": "Of its kind."},
    "metadata": {"type": "object", "default": {}, "description": "Whatever you like to keep beside it."},
}
VARIABLE = r"^\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}$"
REQUIRED = ["id", "name", "endpoint_url"]


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a file of definitions."""
    parts: dict[str, Any] = {"assertion": _assertion(), "service": _service()}
    for kind in KINDS.values():
        parts |= _options(kind)
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "SLA Monitor: definitions of services",
        "description": "What `sla-monitor apply` takes. Made from the code; see monitors.md.",
        "type": "object",
        "required": ["services"],
        "properties": {"$schema": {"type": "string"}, "services": {"type": "array", "items": {"$ref": "#/$defs/service"}}},
        "patternProperties": {"^x-": {"description": "Your own, for anchors."}},
        "additionalProperties": False,
        "$defs": parts,
    }
    opened: dict[str, Any] = _open_to_variables(whole)
    opened["$defs"]["variable"] = {"type": "string", "pattern": VARIABLE, "description": "A variable of the environment."}
    return opened


def _open_to_variables(value: Any) -> Any:  # noqa: ANN401  # a part of a JSON Schema
    """Let a variable stand where a number, true or false is wanted: it is one once it was filled in."""
    if isinstance(value, list):
        return [_open_to_variables(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") in ("integer", "number", "boolean"):
        beside = {name: one for name, one in value.items() if name in {"description", "default"}}
        form = {name: one for name, one in value.items() if name not in beside}
        return {"anyOf": [form, {"$ref": "#/$defs/variable"}], **beside}
    return {name: _open_to_variables(one) for name, one in value.items()}


def _service() -> dict[str, Any]:
    return {
        "type": "object",
        "required": REQUIRED,
        "properties": FIELDS,
        "additionalProperties": False,
        "allOf": [_by_kind(kind) for kind in KINDS.values()],
    }


def _by_kind(kind: Kind) -> dict[str, Any]:
    # A service that names no kind is one of http: there the condition holds without the field.
    named = {} if kind.name == "http" else {"required": ["kind"]}
    then: dict[str, Any] = {
        "endpoint_url": {"pattern": f"^(({'|'.join(kind.schemes)})://|\\$\\{{)"},
        "options": {"$ref": f"#/$defs/options-{kind.name}"},
        "assertions": {"items": {"properties": {"source": {"enum": list(kind.sources)}}}} if kind.sources else {"maxItems": 0},
    }
    needed = {"required": ["options"]} if kind.schema.get("required") else {}
    return {"if": {"properties": {"kind": {"const": kind.name}}, **named}, "then": {"properties": then, **needed}}


def _assertion() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["source", "comparison"],
        "properties": {
            "source": {"type": "string", "description": "What is looked at; which there are follows from the kind."},
            "property": {
                "type": "string",
                "default": "",
                "description": "Which part: a header's name, a JSONPath, a CSS selector, a phase.",
            },
            "comparison": {"enum": list(COMPARISONS)},
            "target": {"type": ["string", "number", "boolean", "null"], "description": "What to compare with."},
            "severity": {"enum": list(AssertionSeverity), "default": "down", "description": "What the service is if this does not hold."},
        },
        "additionalProperties": False,
    }


def _options(kind: Kind) -> dict[str, Any]:
    """Return a kind's options as parts of the whole: their own parts are named after the kind."""

    def moved(value: Any) -> Any:  # noqa: ANN401  # a part of a JSON Schema
        if isinstance(value, dict):
            return {name: moved(one) for name, one in value.items() if name != "$defs" and (name != "title" or isinstance(one, dict))}
        if isinstance(value, list):
            return [moved(one) for one in value]
        is_reference = isinstance(value, str) and value.startswith("#/$defs/")
        return f"#/$defs/{kind.name}-{value.removeprefix('#/$defs/')}" if is_reference else value

    parts = {f"{kind.name}-{name}": moved(part) for name, part in kind.schema.get("$defs", {}).items()}
    return {f"options-{kind.name}": moved(dict(kind.schema)), **parts}


def page() -> str:
    """Return docs/kinds.md."""
    lines = [HEAD, "| kind | what it is | address |", "|---|---|---|"]
    lines += [f"| [`{kind.name}`](#{kind.name}) | {kind.title} | {kind.endpoint} |" for kind in KINDS.values()]
    for kind in KINDS.values():
        lines += ["", *_section(kind)]
    return "\n".join(lines) + "\n"


def _section(kind: Kind) -> Iterator[str]:
    yield f"## {kind.name}"
    yield ""
    yield f"{kind.title}. Address: {kind.endpoint}. {kind.schema.get('description', '')}".rstrip()
    yield ""
    if kind.schema.get("properties"):
        yield from _table(kind.schema, kind.schema)
        for name, part in kind.schema.get("$defs", {}).items():
            yield from ("", f"**{name}**: {part.get('description', '')}", "", *_table(part, kind.schema))
    else:
        yield "No options."
    yield ""
    if not kind.sources:
        yield "No assertions."
        return
    yield "| assertions on | what is found | `property` |"
    yield "|---|---|---|"
    for name, source in kind.sources.items():
        permitted = (
            "required: see [assertions](assertions.md)" if source.properties is None else ", ".join(f"`{one}`" for one in source.properties)
        )
        yield f"| `{name}` | {source.type} | {permitted} |"


def _table(part: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    required = part.get("required", ())
    yield "| option | must be | default | |"
    yield "|---|---|---|---|"
    for name, one in part.get("properties", {}).items():
        default = "required" if name in required else f"`{json.dumps(one['default'], ensure_ascii=False)}`" if "default" in one else "none"
        secret = "*secret* " if '"writeOnly": true' in json.dumps(one) else ""
        said = " ".join(one.get("description", "").split()).replace("|", "\\|")
        yield f"| `{name}` | {secret}{_fits(one, whole)} | {default} | {said} |"


def _fits(one: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """Return what fits, with the name of a part that has a table of its own."""
    parts = [each["$ref"].rsplit("/", 1)[-1] for each in (one, *one.get("anyOf", ())) if "$ref" in each]
    text = words(one, whole).replace("|", "\\|")
    return text.replace("an object", f"an object ({', '.join(parts)})", 1) if parts else text


if __name__ == "__main__":
    SCHEMA.write_text(as_text(schema()), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
