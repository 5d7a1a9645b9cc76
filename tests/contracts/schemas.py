"""The JSON Schema of every event type, as the code means it, and where the committed ones lie."""

import json
from pathlib import Path
from typing import Any

from shared.contracts.envelope import Event, Payload
from shared.contracts.registry import PAYLOADS

Schema = dict[str, Any]

CONTRACTS = Path(__file__).parents[2] / "shared" / "contracts"
SCHEMAS = CONTRACTS / "schemas"
EXAMPLES = CONTRACTS / "examples"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(payload: type[Payload]) -> Schema:
    """Return the schema of the whole event that carries this payload: what a reader accepts, descriptions included."""
    schema: Schema = Event[payload].model_json_schema(mode="validation")  # type: ignore[valid-type]  # the parametrised model is made at run time
    schema["properties"]["type"]["const"] = payload.TYPE
    return {"$schema": DIALECT, "$id": f"{payload.TYPE}.json", **schema, "title": payload.TYPE, "description": payload.__doc__ or ""}


def generated() -> dict[str, Schema]:
    """Return the schema of every registered event, by type."""
    return {event_type: schema_of(payload) for event_type, payload in PAYLOADS.items()}


def committed(folder: Path = SCHEMAS) -> dict[str, Schema]:
    """Return the schemas that were promised to readers, by type."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def as_text(content: object) -> str:
    """Return JSON as it is committed: indented, the letters of every script as they are."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def examples(folder: Path = EXAMPLES) -> dict[tuple[str, str], Path]:
    """Return the golden examples, by event type and case."""
    return {(path.parent.name, path.stem): path for path in sorted(folder.glob("*/*.json"))}
