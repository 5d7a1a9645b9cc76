"""docs/events.md, made from the registry, the topology and the golden examples."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared import topology
from shared.contracts.registry import PAYLOADS
from tests.contracts.schemas import Schema, examples, generated

PAGE = Path(__file__).parents[2] / "docs" / "events.md"

HEAD = """# Events

Made by `python -m tests.contracts.regenerate` from `shared/contracts` and `shared/topology.py`: edit those, not this page.

Every event is a [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) message in structured JSON, UTF-8.
Its `type` is also the routing key. Times are UTC, RFC 3339 with milliseconds; durations carry their unit in the name. Inside a version a
type grows by optional fields only: ignore the fields that you do not know. Entities carry a `version` that grows by one with every change:
ignore what is older than what you have. A repeated event has the same `id`.

The public feed is the stream `{stream}` (kept for seven days): the offset of a message in it is what a client resumes from.
"""


def page() -> str:
    """Return the page as it should be committed."""
    schemas = generated()
    lines = [HEAD.format(stream=topology.STATUS_STREAM)]
    lines += ["| type | what it says | said by |", "|---|---|---|"]
    lines += [f"| [`{name}`](#{name.replace('.', '')}) | {_sentence(name)} | {', '.join(_sources(name))} |" for name in schemas]
    parts: dict[str, Schema] = {}
    for name, schema in schemas.items():
        lines += ["", *_section(name, schema)]
        parts |= schema["$defs"]
    lines += ["", "## The envelope", "", *_table({**next(iter(schemas.values()))}, skip=("data",))]
    lines += ["", "## Parts"]
    payloads = {payload.__name__ for payload in PAYLOADS.values()}
    for part in sorted(set(parts) - payloads):
        lines += ["", f"### {part}", "", parts[part].get("description", ""), "", *_part(parts[part])]
    return "\n".join(lines) + "\n"


def _sentence(event_type: str) -> str:
    return (PAYLOADS[event_type].__doc__ or "").strip()


def _sources(event_type: str) -> list[str]:
    return sorted(
        {f"`{json.loads(path.read_text(encoding='utf-8'))['source']}`" for (name, _), path in examples().items() if name == event_type}
    )


def _section(name: str, schema: Schema) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    places = ", ".join(f"`{place}`" for place in _places(name))
    yield f"{_sentence(name)} Goes to {places}. [Schema](../shared/contracts/schemas/{name}.json)."
    cases = [case for event_type, case in examples() if event_type == name]
    yield f"Examples: {', '.join(f'[{case}](../shared/contracts/examples/{name}/{case}.json)' for case in cases)}."
    yield ""
    yield from _table(schema["$defs"][PAYLOADS[name].__name__])


def _places(event_type: str) -> list[str]:
    """Return the queues and streams whose bindings take the type."""
    found = [queue.name for queue in topology.WORK_QUEUES if any(matches(key, event_type) for key in queue.bindings)]
    return found + [topology.STATUS_STREAM for key in topology.STREAM_BINDINGS if matches(key, event_type)]


def matches(binding: str, routing_key: str) -> bool:
    """Say whether a topic binding that is words and then perhaps `#` takes a routing key."""
    words = binding.split(".")
    if words[-1] != "#":
        return binding == routing_key
    return routing_key.split(".")[: len(words) - 1] == words[:-1]


def _part(schema: Schema) -> list[str]:
    if "enum" in schema:
        return ["One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + "."]
    return list(_table(schema))


def _table(schema: Schema, skip: tuple[str, ...] = ()) -> Iterator[str]:
    required = set(schema.get("required", ()))
    yield "| field | type | always | |"
    yield "|---|---|---|---|"
    for name, field in schema["properties"].items():
        if name not in skip:
            yield f"| `{name}` | {_type(field)} | {'yes' if name in required else 'no'} | {field.get('description', '')} |"


def _type(field: Any) -> str:  # noqa: ANN401  # a part of a JSON Schema
    if "$ref" in field:
        part = field["$ref"].rsplit("/", 1)[-1]
        return f"[{part}](#{part.lower()})"
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if "const" in field and field.get("title") != "Type":
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    return {"uuid": "UUID", "date-time": "time", "date": "date"}.get(field.get("format", ""), str(field.get("type", "anything")))
