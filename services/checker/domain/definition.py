"""What a definition may say. Judged as a whole: every flaw is named at once, so that nobody mends them one by one."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import SplitResult, urlsplit

from services.checker.domain.hosts import HostRules, literal
from services.checker.domain.kinds import NOT_AN_OPTION, Flaw, Kind, Language

MIN_INTERVAL_MS, MAX_INTERVAL_MS = 1_000, 86_400_000
MAX_TIMEOUT_MS = 60_000
MAX_THRESHOLD = 10
MAX_ID, MAX_NAME, MAX_DESCRIPTION, MAX_URL = 63, 200, 2_000, 2_048
MAX_JSON_BYTES = 65_536
"""Room for a chain of certificates and a key."""
MAX_REGIONS, MAX_DEPENDENCIES = 50, 50
QUORUMS = ("any", "majority", "all")
SET_BY_SYSTEM = frozenset({"status", "version", "created_at", "updated_at"})

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_NUMBER = re.compile(r"[1-9][0-9]?")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition that can work. Times in milliseconds."""

    id: str
    name: str
    display_name: str
    endpoint_url: str
    display_name_ko: str | None = None
    description: str = ""
    kind: str = "http"
    check_interval: int = 60_000
    timeout: int = 5_000
    failure_threshold: int = 2
    recovery_threshold: int = 2
    is_active: bool = True
    retry_interval_ms: int | None = None
    degraded_after_ms: int | None = None
    regions: tuple[str, ...] = ()
    quorum: str = "majority"
    depends_on: tuple[str, ...] = ()
    assertions: tuple[dict[str, Any], ...] = ()
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A definition that cannot work, and everything that is wrong with it."""

    flaws: tuple[Flaw, ...]


FIELDS = tuple(one.name for one in fields(Definition))
_DEFAULTS = {one.name: one.default for one in fields(Definition)}


def define(values: Mapping[str, Any], rules: HostRules, language: Language) -> Definition | Rejected:
    """Return the definition that `values` make, with defaults for what is missing, or everything that is wrong with them."""
    flaws = [Flaw(name, _strange(name)) for name in values if name not in FIELDS]
    known = {name: value for name, value in values.items() if name in FIELDS}
    known.setdefault("display_name", known.get("name"))
    flaws += [Flaw(name, "is required") for name in ("id", "name", "endpoint_url") if name not in known]
    flaws += [Flaw(name, reason) for name, value in known.items() if name in values and (reason := _CHECKS[name](value))]
    kind = language.kinds.get(str(known.get("kind", "http")))
    if kind is None:
        flaws.append(Flaw("kind", f"must be one of {', '.join(language.kinds)}"))
    else:
        flaws += _of_kind(kind, known, {flaw.field for flaw in flaws}, rules, language)
    flaws += _out_of_proportion(known, {flaw.field for flaw in flaws})
    if not any(flaw.field == "depends_on" for flaw in flaws) and known.get("id") in known.get("depends_on", ()):
        flaws.append(Flaw("depends_on", "must not name the service itself"))
    for name in ("regions", "depends_on", "assertions"):
        if name in known and not flaws:
            known[name] = tuple(known[name])
    return Rejected(tuple(flaws)) if flaws else Definition(**known)


def _of_kind(kind: Kind, known: Mapping[str, Any], wrong: set[str], rules: HostRules, language: Language) -> list[Flaw]:
    """Return what is wrong with address, options and assertions, as far as each has the right form."""
    flaws: list[Flaw] = []
    if "endpoint_url" not in wrong and (reason := _endpoint_reason(kind, known["endpoint_url"], rules)):
        flaws.append(Flaw("endpoint_url", reason))
    if "options" not in wrong:
        options, option_flaws = kind.read(known.get("options", {}))
        flaws += [Flaw(flaw.field, flaw.reason.replace(NOT_AN_OPTION, f"is not an option of {kind.name}")) for flaw in option_flaws]
        if kind.flaws and not flaws and "endpoint_url" not in wrong:
            flaws += kind.flaws(known["endpoint_url"], options)
    if "assertions" not in wrong:
        flaws += language.read_assertions(known.get("assertions", ()), kind)[1]
    return flaws


def _out_of_proportion(known: Mapping[str, Any], wrong: set[str]) -> list[Flaw]:
    """Return which times are not shorter than the one that bounds them."""
    found = []
    for name, bound in (("timeout", "check_interval"), ("retry_interval_ms", "check_interval"), ("degraded_after_ms", "timeout")):
        value, most = (known.get(one, _DEFAULTS[one]) for one in (name, bound))
        if not wrong & {name, bound} and value is not None and value >= most:
            found.append(Flaw(name, f"must be shorter than {bound}"))
    return found


def amend(present: Definition, changes: Mapping[str, Any], rules: HostRules, language: Language) -> Definition | Rejected:
    """Return the definition with some fields changed, judged as a whole again."""
    if changes.get("id", present.id) != present.id:
        return Rejected((Flaw("id", "cannot be changed; remove the service and create another"),))
    return define({**asdict(present), **changes}, rules, language)


def _strange(name: str) -> str:
    return "is set by the system" if name in SET_BY_SYSTEM else "is not a field of a service"


def _text(most: int, *, least: int = 0, lines: bool = False) -> Callable[[Any], str | None]:
    banned = _UNSTORABLE if lines else _CONTROL

    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return "must be text"
        if not least <= len(value.strip()) or len(value) > most:
            return f"must have {least} to {most} characters"
        return "has characters that cannot be shown" if banned.search(value) else None

    return check


def _nullable(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    return lambda value: None if value is None else check(value)


def _whole(least: int, most: int, unit: str = "") -> Callable[[Any], str | None]:
    def check(value: object) -> str | None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and least <= value <= most else f"must be a whole number from {least} to {most}{unit}"  # type: ignore[operator]  # whole says it is an int

    return check


def _identifier(value: object) -> str | None:
    fits = isinstance(value, str) and len(value) <= MAX_ID and _ID.fullmatch(value)
    return None if fits else f"must be kebab-case: a-z, 0-9 and single hyphens between them, at most {MAX_ID} characters"


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _ids(most: int, reason: str) -> Callable[[Any], str | None]:
    def check(value: object) -> str | None:
        fits = isinstance(value, list | tuple) and len(value) <= most and len(set(map(str, value))) == len(value)
        return None if fits and all(_identifier(one) is None for one in value) else reason  # type: ignore[attr-defined]  # fits says it is a list

    return check


def _quorum(value: object) -> str | None:
    is_number = isinstance(value, str) and _NUMBER.fullmatch(value) and int(value) <= MAX_REGIONS
    return None if is_number or value in QUORUMS else f'must be {", ".join(QUORUMS)}, or a number of regions as text, such as "2"'


def _list(value: object) -> str | None:
    return None if isinstance(value, list | tuple) else "must be a list"


def _json_object(value: object) -> str | None:
    if not isinstance(value, dict):
        return "must be an object"
    try:
        written = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "must be plain JSON"
    if len(written) > MAX_JSON_BYTES:
        return f"must be shorter than {MAX_JSON_BYTES} characters as JSON"
    return "has characters that cannot be stored" if "\\u0000" in written or _UNSTORABLE.search(written) else None


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "id": _identifier,
    "name": _text(MAX_NAME, least=1),
    "display_name": _text(MAX_NAME, least=1),
    "display_name_ko": _nullable(_text(MAX_NAME)),
    "description": _text(MAX_DESCRIPTION, lines=True),
    "kind": _text(MAX_ID, least=1),
    "endpoint_url": _text(MAX_URL, least=1),
    "check_interval": _whole(MIN_INTERVAL_MS, MAX_INTERVAL_MS, " (milliseconds)"),
    "timeout": _whole(1, MAX_TIMEOUT_MS, " (milliseconds)"),
    "failure_threshold": _whole(1, MAX_THRESHOLD),
    "recovery_threshold": _whole(1, MAX_THRESHOLD),
    "is_active": _boolean,
    "retry_interval_ms": _nullable(_whole(1, MAX_INTERVAL_MS, " (milliseconds), or null")),
    "degraded_after_ms": _nullable(_whole(1, MAX_TIMEOUT_MS, " (milliseconds), or null")),
    "regions": _ids(MAX_REGIONS, 'must be a list of different regions, as in ["eu-west"]'),
    "quorum": _quorum,
    "depends_on": _ids(MAX_DEPENDENCIES, 'must be a list of different services, by id, as in ["database"]'),
    "assertions": _list,
    "options": _json_object,
    "metadata": _json_object,
}


def _endpoint_reason(kind: Kind, url: str, rules: HostRules) -> str | None:
    form = kind.endpoint
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"must be {form}"
    if parts.scheme not in kind.schemes or not parts.hostname or " " in url or "\\" in url or port == 0:
        return f"must be {form}"
    if "@" in parts.netloc:
        return "must hold no user name or password: it is shown to every viewer"
    if kind.needs_port and (port is None or parts.path not in {"", "/"} or parts.query or parts.fragment):
        return f"must be {form}"
    return _host_reason(parts, rules) if kind.needs_host else None


def _host_reason(parts: SplitResult, rules: HostRules) -> str | None:
    host = parts.hostname or ""
    address = literal(host)
    if address is not None:
        return rules.refusal(str(address))
    try:
        ascii_host = host.encode("idna").decode()
    except UnicodeError:
        return "has a host that is no name"
    return None if _HOST.fullmatch(ascii_host) else "has a host that is no name"
