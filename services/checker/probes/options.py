"""The ground of every kind's options: a frozen pydantic model, read with every flaw named, secrets kept out of sight.

A field typed `SecretStr` (alone, in a list, a dict or a nested model) is a secret: encrypted at rest, masked in the API, never logged.
Each field's description and bounds become its documentation and its form (JSON Schema 2020-12).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from services.checker.domain.kinds import NOT_AN_OPTION, Flaw
from services.checker.probes import words

_BY_SCHEMA = frozenset(
    {
        "enum",
        "finite_number",
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "literal_error",
        "string_pattern_mismatch",
        "string_too_long",
        "string_too_short",
        "too_long",
        "too_short",
    }
)
"""pydantic's errors of which the schema says better what is wanted; so it does of every `…_type`."""


class Options(BaseModel):
    """Options of a kind. Frozen; what it does not know is a flaw; numbers are not taken for text nor text for numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class NoOptions(Options):
    """This kind has nothing to choose."""


Model = TypeVar("Model", bound=Options)


def reader(model: type[Model]) -> Callable[[Mapping[str, Any]], tuple[Model | None, list[Flaw]]]:
    """Return the function that reads a kind's options: the model and no flaws, or None and every flaw. Values are JSON."""
    schema = model.model_json_schema()

    def read(options: Mapping[str, Any]) -> tuple[Model | None, list[Flaw]]:
        try:
            # As JSON would be: lists for tuples and names for enumerations are fine, text for numbers is not.
            return model.model_validate_json(json.dumps(dict(options))), []
        except ValidationError as error:
            return None, _flaws(error.errors(include_url=False, include_input=False), options, schema)

    return read


def _flaws(errors: Sequence[Any], options: Mapping[str, Any], schema: words.Schema) -> list[Flaw]:
    """Return one flaw for each field: the members of a union each say their own, of the same place."""
    reasons: dict[str, dict[str, None]] = {}
    for error in errors:
        path = _path(error, options)
        reasons.setdefault(".".join(("options", *map(str, path))), {})[_reason(error, path, schema)] = None
    # A list whose member is wrong counts as too short as well: the member says it.
    return [Flaw(where, "; ".join(said)) for where, said in reasons.items() if not any(other.startswith(f"{where}.") for other in reasons)]


def _path(error: Any, options: Mapping[str, Any]) -> list[str | int]:  # noqa: ANN401  # pydantic's own mapping
    """Return where in the options an error is, without the names that pydantic gives to the members of a union."""
    path: list[str | int] = []
    here: Any = options
    for place, part in enumerate(error["loc"]):
        last = place == len(error["loc"]) - 1
        inside = part in here if isinstance(here, Mapping) else isinstance(here, list) and isinstance(part, int) and part < len(here)
        if inside:
            path.append(part)
            here = here[part]
        elif last and error["type"] == "missing":
            path.append(part)
    return path


def _reason(error: Any, path: Sequence[str | int], schema: words.Schema) -> str:  # noqa: ANN401  # pydantic's own mapping
    kind = str(error["type"])
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return NOT_AN_OPTION
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        tags = f", one of {error['ctx']['expected_tags']}" if "expected_tags" in error["ctx"] else ""
        return f"must have {error['ctx']['discriminator']}{tags}".replace("'", "")
    if kind.endswith("_type") or kind in _BY_SCHEMA:
        said = " or ".join(dict.fromkeys(words.words(one, schema) for one in words.at(schema, path)))
        return f"must be {said or 'something else'}"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message[:1].lower() + message[1:]
