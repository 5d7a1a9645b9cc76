"""The ground of every kind's options: a frozen pydantic model, read with every flaw named, secrets kept out of sight.

A field typed `SecretStr` (alone, in a list, a dict or a nested model) is a secret: encrypted at rest, masked in the API, never logged.
Each field's description and bounds become its documentation and its form (JSON Schema 2020-12).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from services.checker.domain.kinds import Flaw

_REASONS = {
    "extra_forbidden": "is not an option of this kind",
    "missing": "is required",
}


class Options(BaseModel):
    """Options of a kind. Frozen; what it does not know is a flaw; numbers are not taken for text nor text for numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class NoOptions(Options):
    """This kind has nothing to choose."""


Model = TypeVar("Model", bound=Options)


def reader(model: type[Model]) -> Callable[[Mapping[str, Any]], tuple[Model | None, list[Flaw]]]:
    """Return the function that reads a kind's options: the model and no flaws, or None and every flaw. Values are JSON."""

    def read(options: Mapping[str, Any]) -> tuple[Model | None, list[Flaw]]:
        try:
            # As JSON would be: lists for tuples and names for enumerations are fine, text for numbers is not.
            return model.model_validate_json(json.dumps(dict(options))), []
        except ValidationError as error:
            return None, [_flaw(one) for one in error.errors(include_url=False, include_input=False)]

    return read


def _flaw(error: Any) -> Flaw:  # noqa: ANN401  # pydantic's own mapping
    where = ".".join(("options", *(str(part) for part in error["loc"])))
    message = str(error["msg"]).removeprefix("Value error, ")
    return Flaw(where, _REASONS.get(error["type"], message[:1].lower() + message[1:]))
