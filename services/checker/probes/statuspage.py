"""Another party's status page as a dependency: what it says of itself, or of one component (the Statuspage v2 API).

The page is somebody's word and no measurement, so that nothing but its word counts: a page that cannot be read makes the dependency
unknown, never well or ill. What it means: indicator `none` healthy, `minor` degraded, `major` and `critical` failed; component
`operational` healthy, `degraded_performance` degraded, `partial_outage` and `major_outage` failed, as Statuspage itself makes an indicator
of them. Maintenance is degraded: announced, and still not what one may rely on. (While nothing but maintenance goes on, most pages'
indicator stays `none`.)
"""

import json
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from services.checker.domain.kinds import Kind, Source
from services.checker.domain.redact import storable
from services.checker.domain.target import NO_FACTS, Facts, Measurement, Target, not_looked
from services.checker.probes import http
from services.checker.probes.exchange import Shape
from services.checker.probes.http_options import HttpOptions
from services.checker.probes.journey import Errand, travel
from services.checker.probes.options import Options, reader
from services.checker.probes.talk import Ended
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType, Outcome

MAX_BYTES = 2 * 1024 * 1024
MAX_DESCRIPTION = 200
_ASKING = HttpOptions()

_INDICATORS = {
    "none": Outcome.HEALTHY,
    "minor": Outcome.DEGRADED,
    "maintenance": Outcome.DEGRADED,
    "major": Outcome.FAILED,
    "critical": Outcome.FAILED,
}
_STATUSES = {
    "operational": Outcome.HEALTHY,
    "under_maintenance": Outcome.DEGRADED,
    "degraded_performance": Outcome.DEGRADED,
    "partial_outage": Outcome.FAILED,
    "major_outage": Outcome.FAILED,
}
"""From well to ill."""


class StatuspageOptions(Options):
    """What of the page counts."""

    component: str = Field(default="", max_length=200)
    """Name or id of one component; without it the page as a whole."""


KIND = Kind(
    "statuspage",
    "Status page of another party",
    ("http", "https"),
    "the page's address, http:// or https://, or that of its summary.json",
    reader(StatuspageOptions),
    StatuspageOptions.model_json_schema(),
    sources={
        "status": Source("text"),
        "json": Source("json", None),
        "response_time": http.SOURCES["response_time"],
        "phase": http.SOURCES["phase"],
    },
)


class _Unreadable(Exception):  # noqa: N818  # says what happened
    """The page does not say what it should say; the message tells."""


async def probe(target: Target, tools: Tools) -> Measurement:
    """Read the page once. Raises `EngineStopped` when the process is stopping."""
    options = target.options
    if not isinstance(options, StatuspageOptions):
        msg = f"{target.id} has no options of a status page"
        raise TypeError(msg)
    page = replace(target, endpoint_url=_address(target.endpoint_url, options))
    try:
        journey = await travel(Errand(page, Shape("GET"), MAX_BYTES, keep_bytes=MAX_BYTES), tools)
    except Ended as ended:
        return _unknown(ended.measurement)
    answer = http.judge(journey, _ASKING, timeout_ms=target.timeout_ms, keep=True)
    if answer.outcome is not Outcome.HEALTHY or answer.status_code != HTTPStatus.OK:
        return _unknown(answer)
    try:
        said, description = _read(answer.facts, options.component)
    except _Unreadable as error:
        return _unknown(replace(answer, error_message=str(error)))
    return _told(answer, said, description, keep=bool(target.assertions))


def _told(answer: Measurement, said: str, description: str, *, keep: bool) -> Measurement:
    outcome = (_INDICATORS | _STATUSES)[said]
    well = outcome is Outcome.HEALTHY
    return replace(
        answer,
        outcome=outcome,
        error_type=None if well else ErrorType.ASSERTION_FAILED,
        error_message=None if well else f"the page's status is {said.replace('_', ' ')}",
        facts=replace(answer.facts, values={"status": said}) if keep else NO_FACTS,
        details={"status": said, "description": description},
    )


def _unknown(answer: Measurement) -> Measurement:
    """Return what an unreadable page teaches: nothing of the dependency."""
    why = (answer.error_message or f"answered {answer.status_code}, expected 200").removeprefix("not checked: ")
    return replace(not_looked(f"the page cannot be read: {why}", method="GET"), times=answer.times, status_code=answer.status_code)


def _address(url: str, options: StatuspageOptions) -> str:
    """Return where the page's state is: the address itself if it names JSON, or where every such page has it."""
    parts = urlsplit(url)
    if parts.path.endswith(".json"):
        return url
    document = "summary.json" if options.component else "status.json"
    return parts._replace(path=f"{parts.path.rstrip('/')}/api/v2/{document}", query="", fragment="").geturl()


def _read(facts: Facts, component: str) -> tuple[str, str]:
    """Return the indicator or the component's status, and the words that people read. Raises `_Unreadable`."""
    if facts.truncated:
        msg = f"it is longer than {MAX_BYTES} bytes"
        raise _Unreadable(msg)
    try:
        page = json.loads(facts.body)
    except (ValueError, RecursionError):
        msg = "it is not JSON"
        raise _Unreadable(msg) from None
    return _component(page, component) if component else _whole(page)


def _whole(page: Any) -> tuple[str, str]:  # noqa: ANN401  # JSON
    status = page.get("status") if isinstance(page, dict) else None
    if not isinstance(status, dict) or not isinstance(status.get("indicator"), str) or status["indicator"] not in _INDICATORS:
        msg = "it names no status"
        raise _Unreadable(msg)
    return status["indicator"], _text(status.get("description"))


def _component(page: Any, wanted: str) -> tuple[str, str]:  # noqa: ANN401  # JSON
    """Return the status of the component; of several that have its name the worst."""
    listed = page.get("components") if isinstance(page, dict) else None
    if not isinstance(listed, list):
        msg = "it lists no components"
        raise _Unreadable(msg)
    found = [one for one in listed if isinstance(one, dict) and wanted in (one.get("id"), one.get("name"))]
    if not found:
        msg = "it has no such component"
        raise _Unreadable(msg)
    if not all(isinstance(one.get("status"), str) and one["status"] in _STATUSES for one in found):
        msg = "it names no status of the component"
        raise _Unreadable(msg)
    worst = max(found, key=lambda one: list(_STATUSES).index(one["status"]))
    return worst["status"], _text(worst.get("name"))


def _text(value: Any) -> str:  # noqa: ANN401  # JSON
    return storable(value[:MAX_DESCRIPTION]) if isinstance(value, str) else ""
