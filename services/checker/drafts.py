"""What somebody writes becomes what is stored: judged as a whole, secrets sealed, masks resolved, everything in its one form."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from services.checker.assertions import read_assertions
from services.checker.domain.definition import Definition, Rejected, amend, define
from services.checker.domain.hosts import HostRules
from services.checker.domain.kinds import Flaw, Language
from services.checker.probes import KINDS
from services.checker.secrets import CannotSeal, CannotUnseal, Sealer, mask

LANGUAGE = Language(KINDS, read_assertions)


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms an installation accepts definitions: the addresses it permits, and the keys of its secrets."""

    rules: HostRules
    sealer: Sealer


def accept(values: Mapping[str, Any], terms: Terms, present: Definition | None = None) -> Definition | Rejected:
    """Return the definition that `values` make, ready to be stored, or everything that is wrong with them.

    A mask keeps the secret of `present`, the same service as it is stored.
    """
    try:
        plain = in_clear(values, terms, present)
    except CannotUnseal as error:
        return Rejected((Flaw("options", str(error)),))
    judged = define(plain, terms.rules, LANGUAGE)
    return judged if isinstance(judged, Rejected) else _sealed(judged, terms, present)


def amended(present: Definition, changes: Mapping[str, Any], terms: Terms) -> Definition | Rejected:
    """Return a stored definition with some fields changed, ready to be stored, or everything that is wrong with that.

    Options belong to a kind: where the kind changes and none are written, they begin anew.
    """
    same_kind = changes.get("kind", present.kind) == present.kind
    whole = {"options": mask(present.options) if same_kind else {}, **changes}
    try:
        plain = in_clear({"kind": present.kind, "endpoint_url": present.endpoint_url, **whole}, terms, present)
    except CannotUnseal as error:
        return Rejected((Flaw("options", str(error)),))
    judged = amend(present, {**changes, "options": plain["options"]}, terms.rules, LANGUAGE)
    return judged if isinstance(judged, Rejected) else _sealed(judged, terms, present)


def in_clear(values: Mapping[str, Any], terms: Terms, present: Definition | None) -> Mapping[str, Any]:
    """Return `values` with the secrets that their masks keep. Raises `CannotUnseal`.

    None is kept for another kind or another host: whoever may change an address must not thereby be sent the secret.
    """
    options = values.get("options")
    if present is None or not isinstance(options, dict):
        return values
    if values.get("kind", "http") != present.kind or _origin(values.get("endpoint_url")) != _origin(present.endpoint_url):
        return values
    return {**values, "options": terms.sealer.merge(options, present.options)}


def _origin(url: object) -> tuple[str, str | None, int | None] | None:
    try:
        parts = urlsplit(str(url))
        port = parts.port
    except ValueError:
        return None
    return parts.scheme, parts.hostname, port


def _sealed(judged: Definition, terms: Terms, present: Definition | None) -> Definition | Rejected:
    """Return a judged definition in the form that is stored: two that mean the same are equal."""
    kind = KINDS[judged.kind]
    options, _no_flaws = kind.read(judged.options)
    assertions, _no_flaws = read_assertions(judged.assertions, kind)
    stored = present.options if present is not None and present.kind == judged.kind else {}
    try:
        sealed = terms.sealer.seal(options, stored)
    except CannotSeal as error:
        return Rejected(error.flaws)
    return replace(judged, options=sealed, assertions=tuple(one.written() for one in assertions))
