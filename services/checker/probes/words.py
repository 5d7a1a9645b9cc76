"""A JSON Schema (2020-12) in plain words: what an option must be, for refusals and for the documentation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]


def at(schema: Schema, path: Sequence[str | int]) -> list[Schema]:
    """Return what a schema says of the place that `path` leads to: several where alternatives lead there, none where nothing does."""
    found = [schema]
    for step in path:
        found = [below for one in found for meant in _meant(one, schema) for below in _below(meant, step)]
    return found


def words(schema: Schema, whole: Schema) -> str:
    """Return what fits a schema, as in "a whole number from 1 to 10". `whole` is the schema that holds its `$defs`."""
    said = dict.fromkeys(_words(meant, whole) for meant in _meant(schema, whole))
    return " or ".join(said) or "anything"


def _meant(schema: Schema, whole: Schema) -> Iterator[Schema]:
    """Give the alternatives of a schema, references followed."""
    if "$ref" in schema:
        yield from _meant(whole["$defs"][schema["$ref"].rsplit("/", 1)[-1]], whole)
        return
    alternatives = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if not alternatives:
        yield schema
        return
    for one in alternatives:
        yield from _meant(one, whole)


def _below(schema: Schema, step: str | int) -> list[Schema]:
    if isinstance(step, int):
        before = schema.get("prefixItems", [])
        return [before[step]] if step < len(before) else _as_schema(schema.get("items"))
    known = schema.get("properties", {})
    return [known[step]] if step in known else _as_schema(schema.get("additionalProperties"))


def _as_schema(value: object) -> list[Schema]:
    return [value] if isinstance(value, Mapping) else []


def _words(schema: Schema, whole: Schema) -> str:
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(str(value) for value in schema['enum'])}"
    said = _TYPES.get(str(schema.get("type")))
    return said(schema, whole) if said else "anything"


def _range(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f" from {least} to {most}"
    parts = ((least, "of at least"), (above, "above"), (most, "of at most"), (below, "below"))
    said = " and ".join(f"{how} {bound}" for bound, how in parts if bound is not None)
    return f" {said}" if said else ""


def _count(schema: Schema, what: str) -> str:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    unit = " characters" if what == "Length" else ""
    if least is not None and most is not None:
        return f" of {least}{unit}" if least == most else f" of {least} to {most}{unit}"
    if least is not None:
        return f" of at least {least}{unit}"
    return "" if most is None else f" of at most {most}{unit}"


def _form(schema: Schema) -> str:
    if schema.get("examples"):
        return " as in " + ", ".join(str(one) for one in schema["examples"])
    if "pattern" in schema:
        return f" of the form {schema['pattern']}"
    return _count(schema, "Length")


def _of_values(schema: Schema, whole: Schema) -> str:
    inner = schema.get("additionalProperties")
    return f" of {words(inner, whole)} by name" if isinstance(inner, Mapping) and inner else ""


_TYPES: dict[str, Callable[[Schema, Schema], str]] = {
    "integer": lambda schema, _whole: f"a whole number{_range(schema)}",
    "number": lambda schema, _whole: f"a number{_range(schema)}",
    "boolean": lambda _schema, _whole: "true or false",
    "string": lambda schema, _whole: f"text{_form(schema)}",
    "array": lambda schema, _whole: f"a list{_count(schema, 'Items')}",
    "object": lambda schema, whole: f"an object{_of_values(schema, whole)}",
    "null": lambda _schema, _whole: "null",
}
