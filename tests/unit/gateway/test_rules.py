"""The gateway's rules, each as a table or a property."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain import passwords
from services.gateway.domain.csrf import forged
from services.gateway.domain.language import LANGUAGES, choose
from services.gateway.domain.roles import Action, may
from services.gateway.domain.summary import Headline, Seen, headline
from services.gateway.web.page import HERE, SHAPES, SIGNS, load_texts
from shared.contracts.codes import IncidentStatus, Role, Severity, Status


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.VIEWER, {Action.READ}),
        (Role.REPORTER, {Action.READ, Action.HANDLE_INCIDENTS, Action.REPORT_CALLS, Action.PLAN_MAINTENANCE}),
        (
            Role.ADMIN,
            {
                Action.READ,
                Action.HANDLE_INCIDENTS,
                Action.REPORT_CALLS,
                Action.PLAN_MAINTENANCE,
                Action.CHANGE_SERVICES,
                Action.CORRECT_HISTORY,
                Action.CHANGE_CONTRACTS,
            },
        ),
    ],
)
def test_each_role_may_do_exactly_this(role: Role, allowed: set[Action]) -> None:
    assert {action for action in Action if may(role, action)} == allowed


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("a long enough one", None),
        ("비밀번호는충분히길게", "needs"),
        ("비밀번호는 충분히 길게 쓴다", None),
        ("short", "needs"),
        ("x" * 73, "takes"),
        ("한" * 25, "takes"),
        ("xxxxxxxxxxxxxxxx", "repeats"),
        ("my name is Admin!", "must not"),
        ("zero \0 byte inside", "takes"),
    ],
)
def test_a_password_is_refused_for_a_reason(password: str, fault: str | None) -> None:
    found = passwords.password_fault(password, username="admin")
    assert (found or "").startswith(fault) if fault else found is None


@given(st.text(max_size=100))
def test_whatever_fits_is_at_most_72_bytes(password: str) -> None:
    assert passwords.fits(password) == (len(passwords.normal_password(password).encode()) <= 72 and "\0" not in password)


@pytest.mark.parametrize(
    ("method", "site", "origin", "host", "expected"),
    [
        ("GET", "cross-site", "https://evil.example", "us.example", False),
        ("POST", "cross-site", None, "us.example", True),
        ("POST", "same-site", None, "us.example", True),
        ("POST", "same-origin", None, "us.example", False),
        ("POST", "none", None, "us.example", False),
        ("POST", None, "https://evil.example", "us.example", True),
        ("POST", None, "null", "us.example", True),
        ("POST", None, "https://us.example", "us.example", False),
        ("POST", None, "http://us.example:8080", "us.example:8080", False),
        ("POST", None, None, "us.example", False),
        ("DELETE", None, "https://us.example.evil", "us.example", True),
    ],
)
def test_a_foreign_page_cannot_change_anything(method: str, site: str | None, origin: str | None, host: str, *, expected: bool) -> None:
    assert forged(method=method, fetch_site=site, origin=origin, host=host) is expected


@pytest.mark.parametrize(
    ("query", "cookie", "accept", "language"),
    [
        ("ko", "en", "en", "ko"),
        ("xx", "ko", "en", "ko"),
        (None, None, "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        (None, None, "fr, en;q=0.5, ko;q=0.7", "ko"),
        (None, None, "ko;q=0, fr", "en"),
        (None, None, "ko;q=nonsense", "en"),
        (None, None, "", "en"),
    ],
)
def test_the_reader_s_language_is_found(query: str | None, cookie: str | None, accept: str, language: str) -> None:
    assert choose(query=query, cookie=cookie, accept=accept) == language


@given(st.text(max_size=200))
def test_no_header_makes_the_language_fail(accept: str) -> None:
    assert choose(query=None, cookie=None, accept=accept) in LANGUAGES


@given(st.lists(st.sampled_from(Status)))
def test_the_unknown_is_never_called_operational(statuses: list[Status]) -> None:
    said = headline(Seen(one) for one in statuses)
    known = set(statuses) - {Status.EMPTY}
    assert (said is Headline.OPERATIONAL) == (known == {Status.OPERATIONAL})
    assert (said is Headline.OUTAGE) == (Status.MAJOR_OUTAGE in known)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ([Seen(Status.PARTIAL_OUTAGE, degraded=True), Seen(Status.OPERATIONAL)], Headline.IMPAIRED),
        ([Seen(Status.PARTIAL_OUTAGE, degraded=True), Seen(Status.PARTIAL_OUTAGE)], Headline.DEGRADED),
        ([Seen(Status.MAJOR_OUTAGE, in_maintenance=True), Seen(Status.OPERATIONAL)], Headline.MAINTENANCE),
        ([Seen(Status.OPERATIONAL, in_maintenance=True)], Headline.MAINTENANCE),
        ([Seen(Status.MAJOR_OUTAGE, in_maintenance=True), Seen(Status.MAJOR_OUTAGE)], Headline.OUTAGE),
        ([Seen(Status.MAJOR_OUTAGE, in_maintenance=True), Seen(Status.NO_DATA)], Headline.UNKNOWN),
        ([Seen(Status.EMPTY, in_maintenance=True)], Headline.NOTHING),
    ],
)
def test_announced_work_is_no_outage_and_an_outage_beside_it_is_still_one(seen: list[Seen], said: Headline) -> None:
    """Seen red with services in maintenance counted like others, and with every partial outage called degraded."""
    assert headline(seen) is said


def test_both_dictionaries_have_the_same_keys_and_every_word_that_the_page_needs() -> None:
    texts = load_texts()
    assert texts["en"].keys() == texts["ko"].keys()
    needed = {f"headline.{one}" for one in Headline} | {f"status.{one}" for one in Status} | {f"incident.{one}" for one in IncidentStatus}
    needed |= {"status.degraded", "in_maintenance", "flapping", "because_of", "maintenance.scheduled", "maintenance.in_progress"}
    assert needed | {f"severity.{one}" for one in Severity} <= texts["en"].keys()
    assert set(SHAPES) == set(Status)
    assert set(SIGNS) == set(Headline)
    assert len({SHAPES[one] for one in Status}) == len(Status), "told apart by shape, not by colour alone"


def test_no_text_of_the_dictionaries_is_empty_and_none_is_unused() -> None:
    used = "".join(path.read_text(encoding="utf-8") for path in (*HERE.glob("templates/*"), *HERE.glob("static/page.js")))
    for language in LANGUAGES:
        for key, text in json.loads((HERE / "texts" / f"{language}.json").read_text(encoding="utf-8")).items():
            assert text.strip()
            assert (
                key in used
                or key.partition(".")[0] in {"headline", "status", "incident", "severity", "maintenance"}
                or key in {"offline", "stale"}
            ), key
