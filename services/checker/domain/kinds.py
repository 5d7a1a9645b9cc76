"""What a kind of check is, to those who judge definitions. The kinds themselves are modules in probes/."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

NOT_AN_OPTION = "is not an option of this kind"


@dataclass(frozen=True, slots=True)
class Flaw:
    """One field that cannot be accepted, and why."""

    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """What an assertion of this kind may look at.

    `type` is what is found there: "number", "text", "texts" (any of several may match) or "json". `properties`: the names that are
    permitted; empty where none is taken; None where the property is free (a header's name, a JSONPath, a CSS selector).
    """

    type: str
    properties: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its address and its options.

    `schemes` are those of its `endpoint_url`; `endpoint` is the form of it, as in "tcp://host:port". `needs_port`: there is no default
    one, and nothing may follow it. `needs_host` is False for kinds that connect to nothing (push, group). `read` returns the options
    (frozen, of the kind's own type; None if there are flaws) and every flaw, each field named "options.…". `schema` is the JSON Schema of
    the options. `flaws` judges the address together with the options, where a kind has more to say.
    """

    name: str
    title: str
    schemes: tuple[str, ...]
    endpoint: str
    read: Callable[[Mapping[str, Any]], tuple[Any, list[Flaw]]] = field(repr=False)
    schema: Mapping[str, Any] = field(repr=False)
    needs_port: bool = False
    needs_host: bool = True
    sources: Mapping[str, Source] = field(default_factory=dict)
    flaws: Callable[[str, Any], list[Flaw]] | None = None


@dataclass(frozen=True, slots=True)
class Language:
    """Everything that a definition may be written in: the kinds by name, and the reader of assertions for one of them.

    `read_assertions` returns compiled assertions and every flaw, each field named "assertions.<place>.<field>".
    """

    kinds: Mapping[str, Kind]
    read_assertions: Callable[[Any, Kind], tuple[tuple[Any, ...], list[Flaw]]] = field(repr=False)
