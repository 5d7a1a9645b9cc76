"""What a change of a schema breaks.

A version of an event type may only grow by optional fields. Two kinds of readers must go on working: one of today that meets
messages of tomorrow (so nothing that it counts on goes away, and nothing that it cannot decode appears), and one of tomorrow that
meets messages of today, which lie in queues and for seven days in the stream (so nothing new is demanded of them).
"""

from tests.contracts.schemas import Schema

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "pattern")


def breaks(old: Schema, new: Schema) -> list[str]:
    """Return a sentence for everything in `new` that breaks a reader of `old`, or breaks a new reader on old messages."""
    return _compare("", old, new, old.get("$defs", {}), new.get("$defs", {}))


def _compare(path: str, old: Schema, new: Schema, old_defs: Schema, new_defs: Schema) -> list[str]:
    ours = _alternatives(old, old_defs)
    theirs = _alternatives(new, new_defs)
    where = path or "the event"
    found = [f"{where}: no longer allows {kind}: messages that are under way cannot be read" for kind in ours if kind not in theirs]
    found += [f"{where}: now also allows {kind}: readers of today cannot decode it" for kind in theirs if kind not in ours]
    for kind in ours:
        if kind in theirs:
            found += _same_kind(path, ours[kind], theirs[kind], old_defs, new_defs)
    return found


def _alternatives(schema: Schema, defs: Schema) -> dict[str, Schema]:
    """Return what a schema allows, references followed, by a name such as `string`, `string (uuid)`, `object`, `null`."""
    resolved = _follow(schema, defs)
    found: dict[str, Schema] = {}
    for one in resolved.get("anyOf", [resolved]):
        alternative = _follow(one, defs)
        kind = str(alternative.get("type", "anything"))
        found[f"{kind} ({alternative['format']})" if "format" in alternative else kind] = alternative
    return found


def _follow(schema: Schema, defs: Schema) -> Schema:
    while "$ref" in schema:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**defs[schema["$ref"].rsplit("/", 1)[-1]], **beside}
    return schema


def _same_kind(path: str, old: Schema, new: Schema, old_defs: Schema, new_defs: Schema) -> list[str]:
    found = _values(path or "the event", old, new)
    found += _fields(path, old, new, old_defs, new_defs)
    for inner in ("items", "additionalProperties"):
        if isinstance(old.get(inner), dict) and isinstance(new.get(inner), dict):
            found += _compare(f"{path}[]", old[inner], new[inner], old_defs, new_defs)
        elif old.get(inner) != new.get(inner):
            found.append(f"{path}: {inner} changed from {old.get(inner)!r} to {new.get(inner)!r}")
    return found


def _values(where: str, old: Schema, new: Schema) -> list[str]:
    found = []
    if old.get("const") != new.get("const"):
        found.append(f"{where}: the constant changed from {old.get('const')!r} to {new.get('const')!r}")
    ours, theirs = old.get("enum"), new.get("enum")
    if (ours is None) != (theirs is None):
        found.append(f"{where}: the list of values changed from {ours!r} to {theirs!r}")
    elif ours is not None and theirs is not None:
        found += [
            f"{where}: the value {value!r} was removed: messages that are under way cannot be read" for value in ours if value not in theirs
        ]
        found += [f"{where}: the value {value!r} was added: readers of today cannot decode it" for value in theirs if value not in ours]
    found += [
        f"{where}: {bound} changed from {old.get(bound)!r} to {new.get(bound)!r}" for bound in _BOUNDS if old.get(bound) != new.get(bound)
    ]
    return found


def _fields(path: str, old: Schema, new: Schema, old_defs: Schema, new_defs: Schema) -> list[str]:
    ours, theirs = old.get("properties", {}), new.get("properties", {})
    demanded, now_demanded = set(old.get("required", ())), set(new.get("required", ()))
    found = []
    for name in ours:
        field = f"{path}.{name}".lstrip(".")
        if name not in theirs:
            found.append(f"{field}: the field was removed")
            continue
        if name in now_demanded - demanded:
            found.append(f"{field}: the field became required: messages that are under way lack it")
        if name in demanded - now_demanded:
            found.append(f"{field}: the field became optional: readers of today demand it")
        found += _compare(field, ours[name], theirs[name], old_defs, new_defs)
    found += [
        f"{path}.{name}: a new field is required: messages that are under way lack it".lstrip(".")
        for name in theirs
        if name not in ours and name in now_demanded
    ]
    return found
