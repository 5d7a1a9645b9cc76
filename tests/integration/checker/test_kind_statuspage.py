"""Another party's status page: its word counts as it says, and where it cannot be read nothing is known."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from services.checker.domain.target import Measurement
from services.checker.probes import KINDS
from shared.contracts.codes import ErrorType, Outcome
from tests.asking import ask, looking_at
from tests.nginx import running_nginx
from tests.watched import NEVER_A_NAME

PAGES: dict[str, Any] = {
    **{
        name: {"status": {"indicator": name, "description": f"It is {name}"}}
        for name in ("none", "minor", "major", "critical", "maintenance")
    },
    "blue": {"status": {"indicator": "blue"}},
    "number": {"status": {"indicator": 1}},
    "list": [],
    "bare": {"page": {"name": "x"}},
    "strange": {"status": {"indicator": "none", "description": "x\ud800\0" + "y" * 300}},
}
COMPONENTS = [
    {"id": "a1", "name": "API", "status": "operational"},
    {"id": "b1", "name": "Git", "status": "degraded_performance"},
    {"id": "c1", "name": "Mail", "status": "partial_outage"},
    {"id": "d1", "name": "Web", "status": "major_outage"},
    {"id": "e1", "name": "CDN", "status": "under_maintenance"},
    {"id": "f1", "name": "Twice", "status": "operational"},
    {"id": "f2", "name": "Twice", "status": "major_outage"},
    {"id": "g1", "name": "Odd", "status": "fine"},
    {"id": "h1", "name": "x\ud800\0", "status": "operational"},
    "no component",
]


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    pages = "".join(f"location = /{name}/api/v2/status.json {{ return 200 '{json.dumps(page)}'; }}\n" for name, page in PAGES.items())
    summary = json.dumps({"status": {"indicator": "major"}, "components": COMPONENTS})
    config = f"""server {{
        listen 127.0.0.1:PORT0;
        default_type application/json;
        {pages}
        location = /api/v2/summary.json {{ return 200 '{summary}'; }}
        location = /moved/api/v2/status.json {{ return 301 /none/api/v2/status.json; }}
        location = /html/api/v2/status.json {{ return 200 '<html>'; }}
        location = /gone/api/v2/status.json {{ return 503 '{{"status": {{"indicator": "none"}}}}'; }}
        location = /made/api/v2/status.json {{ return 201 '{{"status": {{"indicator": "none"}}}}'; }}
    }}"""
    with running_nginx(config) as nginx:
        yield f"http://127.0.0.1:{nginx.ports[0]}"


async def read(url: str, **options: Any) -> Measurement:  # noqa: ANN401  # JSON
    return await ask(url, kind="statuspage", **options)


@pytest.mark.parametrize(
    ("page", "outcome"),
    [
        ("none", Outcome.HEALTHY),
        ("minor", Outcome.DEGRADED),
        ("maintenance", Outcome.DEGRADED),
        ("major", Outcome.FAILED),
        ("critical", Outcome.FAILED),
    ],
)
async def test_a_page_counts_as_it_says(site: str, page: str, outcome: Outcome) -> None:
    found = await read(f"{site}/{page}/")
    assert found.outcome is outcome
    assert found.details == {"status": page, "description": f"It is {page}"}
    well = outcome is Outcome.HEALTHY
    assert (found.error_type, found.error_message) == (
        (None, None) if well else (ErrorType.ASSERTION_FAILED, f"the page's status is {page}")
    )


@pytest.mark.parametrize(
    ("component", "outcome"),
    [
        ("API", Outcome.HEALTHY),
        ("a1", Outcome.HEALTHY),
        ("Git", Outcome.DEGRADED),
        ("CDN", Outcome.DEGRADED),
        ("Mail", Outcome.FAILED),
        ("Web", Outcome.FAILED),
        ("Twice", Outcome.FAILED),
        ("f1", Outcome.HEALTHY),
    ],
)
async def test_a_component_counts_in_place_of_the_page(site: str, component: str, outcome: Outcome) -> None:
    """Seen red with the page's own indicator, and with the first of two components that have one name."""
    assert (await read(site, component=component)).outcome is outcome
    assert (await read(f"{site}/api/v2/summary.json", component=component)).outcome is outcome


@pytest.mark.parametrize(
    ("path", "options", "why"),
    [
        ("/nowhere", {}, "answered 404, expected 2xx"),
        ("/gone", {}, "answered 503, expected 2xx"),
        ("/made", {}, "answered 201, expected 200"),
        ("/html", {}, "it is not JSON"),
        ("/blue", {}, "it names no status"),
        ("/number", {}, "it names no status"),
        ("/list", {}, "it names no status"),
        ("/bare", {}, "it names no status"),
        ("", {"component": "Nope"}, "it has no such component"),
        ("", {"component": "Odd"}, "it names no status of the component"),
        ("/none/api/v2/status.json", {"component": "API"}, "it lists no components"),
    ],
)
async def test_a_page_that_cannot_be_read_is_unknown(site: str, path: str, options: dict[str, str], why: str) -> None:
    """Seen red with these as failures."""
    found = await read(f"{site}{path}", **options)
    assert (found.outcome, found.error_type) == (Outcome.UNKNOWN, ErrorType.UNKNOWN)
    assert found.error_message == f"not checked: the page cannot be read: {why}"


@pytest.mark.parametrize(
    ("url", "why"), [("http://127.0.0.1:1/", "connection refused, while connecting"), (f"http://{NEVER_A_NAME}/", "name not found")]
)
async def test_a_page_that_cannot_be_reached_is_unknown(url: str, why: str) -> None:
    found = await read(url)
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, f"not checked: the page cannot be read: {why}")


async def test_a_page_that_moved_is_followed_and_may_be_asserted_on(site: str) -> None:
    found = await read(f"{site}/moved", assertions=looking_at("status"))
    assert (found.outcome, found.facts.values) == (Outcome.HEALTHY, {"status": "none"})


async def test_what_a_page_says_can_be_told(site: str) -> None:
    """Seen red with its words told as they come: a lone surrogate ended the checker."""
    assert (await read(f"{site}/strange")).details == {"status": "none", "description": "x��" + "y" * 197}
    assert (await read(site, component="h1")).details == {"status": "operational", "description": "x��"}


def test_the_component_is_all_there_is_to_choose() -> None:
    assert KINDS["statuspage"].read({"component": "API"})[1] == []
    assert [flaw.field for flaw in KINDS["statuspage"].read({"component": 5, "other": 1})[1]] == ["options.component", "options.other"]
