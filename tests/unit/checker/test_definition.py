"""What a definition may say, and that everything wrong with it is named at once."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.checker.domain.definition import FIELDS, Definition, Rejected, amend, define
from services.checker.domain.hosts import HostRules
from services.checker.usecases import LANGUAGE

GOOD: dict[str, Any] = {"id": "face-compare", "name": "Face Compare", "endpoint_url": "https://api.example.com/health"}
ANY = HostRules()


def flaws(values: dict[str, Any], rules: HostRules = ANY) -> dict[str, str]:
    judged = define(values, rules, LANGUAGE)
    return {flaw.field: flaw.reason for flaw in judged.flaws} if isinstance(judged, Rejected) else {}


def test_the_least_that_works() -> None:
    judged = define(GOOD, ANY, LANGUAGE)
    assert isinstance(judged, Definition)
    assert (judged.display_name, judged.kind, judged.check_interval, judged.timeout) == ("Face Compare", "http", 60_000, 5_000)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"id": "Face"}, "id", "kebab-case"),
        ({"id": "a--b"}, "id", "kebab-case"),
        ({"id": "-a"}, "id", "kebab-case"),
        ({"id": "a" * 64}, "id", "63"),
        ({"id": 7}, "id", "kebab-case"),
        ({"name": " "}, "name", "1 to 200"),
        ({"name": "a\nb"}, "name", "cannot be shown"),
        ({"name": None}, "name", "text"),
        ({"description": "nul \x00"}, "description", "cannot be shown"),
        ({"kind": "smoke"}, "kind", "one of http, tcp"),
        ({"kind": ["http"]}, "kind", "one of"),
        ({"check_interval": 999}, "check_interval", "1000"),
        ({"check_interval": 86_400_001}, "check_interval", "86400000"),
        ({"check_interval": True}, "check_interval", "whole number"),
        ({"check_interval": 1000.5}, "check_interval", "whole number"),
        ({"timeout": 0}, "timeout", "whole number"),
        ({"timeout": 5000, "check_interval": 5000}, "timeout", "shorter than check_interval"),
        ({"check_interval": 4000}, "timeout", "shorter than check_interval"),
        ({"failure_threshold": 0}, "failure_threshold", "1 to 10"),
        ({"recovery_threshold": 11}, "recovery_threshold", "1 to 10"),
        ({"is_active": "yes"}, "is_active", "true or false"),
        ({"colour": "red"}, "colour", "not a field"),
        ({"version": 3}, "version", "set by the system"),
        ({"metadata": [1]}, "metadata", "object"),
        ({"metadata": {"x": "\x00"}}, "metadata", "stored"),
        ({"metadata": {"x": "\ud800"}}, "metadata", "stored"),
        ({"metadata": {"x": float("nan")}}, "metadata", "plain JSON"),
        ({"metadata": {"x": "y" * 70_000}}, "metadata", "shorter"),
        ({"endpoint_url": "ftp://example.com"}, "endpoint_url", "http"),
        ({"endpoint_url": "http://"}, "endpoint_url", "with a host"),
        ({"endpoint_url": "http://exa mple.com"}, "endpoint_url", "with a host"),
        ({"endpoint_url": "http://example.com:99999/"}, "endpoint_url", "with a host"),
        ({"endpoint_url": "http://user:secret@example.com"}, "endpoint_url", "no user name"),
        ({"endpoint_url": "http://a..b/"}, "endpoint_url", "no name"),
        ({"endpoint_url": "http://169.254.169.254/latest/meta-data"}, "endpoint_url", "link-local"),
        ({"endpoint_url": "http://2852039166/"}, "endpoint_url", "link-local"),
        ({"endpoint_url": "http://0xa9.0xfe.0xa9.0xfe/"}, "endpoint_url", "link-local"),
        ({"endpoint_url": "http://[::ffff:169.254.169.254]/"}, "endpoint_url", "link-local"),
        ({"endpoint_url": "http://[fe80::1]/"}, "endpoint_url", "link-local"),
        ({"endpoint_url": "http://[64:ff9b::a9fe:a9fe]/"}, "endpoint_url", "link-local"),
        ({"endpoint_url": "http://[fd00:ec2::254]/"}, "endpoint_url", "metadata"),
        ({"endpoint_url": "http://100.100.100.200/"}, "endpoint_url", "metadata"),
        ({"endpoint_url": "http://0.0.0.0/"}, "endpoint_url", "no address"),
        ({"kind": "tcp"}, "endpoint_url", "tcp://host:port"),
        ({"kind": "tcp", "endpoint_url": "tcp://example.com"}, "endpoint_url", "tcp://host:port"),
        ({"kind": "tcp", "endpoint_url": "tcp://example.com:0"}, "endpoint_url", "tcp://host:port"),
        ({"kind": "tcp", "endpoint_url": "tcp://example.com:5432/db"}, "endpoint_url", "tcp://host:port"),
        ({"kind": "tcp", "endpoint_url": "tcp://e.com:1", "options": {"method": "GET"}}, "options.method", "not an option of tcp"),
        ({"options": {"method": "get"}}, "options.method", "one of GET"),
        ({"options": {"method": ["GET"]}}, "options.method", "one of GET"),
        ({"options": {"expected_codes": []}}, "options.expected_codes", "must be a list of 1 to 50"),
        ({"options": {"expected_codes": [99]}}, "options.expected_codes.0", "must be a whole number from 100 to 599 or text"),
        ({"options": {"expected_codes": [200, "6xx"]}}, "options.expected_codes.1", "must be a whole number from 100 to 599 or text"),
        ({"options": {"expected_codes": "200"}}, "options.expected_codes", "must be a list of 1 to 50"),
        ({"options": {"follow_redirects": 1}}, "options.follow_redirects", "true or false"),
        ({"options": {"max_body_bytes": -1}}, "options.max_body_bytes", "must be a whole number from 0 to 10485760"),
        ({"options": {"verify_tls": None}}, "options.verify_tls", "true or false"),
        ({"options": {"colour": "x"}}, "options.colour", "is not an option of http"),
        ({"retry_interval_ms": 0}, "retry_interval_ms", "whole number from 1"),
        ({"retry_interval_ms": "1 s"}, "retry_interval_ms", "or null"),
        ({"retry_interval_ms": 60_000}, "retry_interval_ms", "shorter than check_interval"),
        ({"degraded_after_ms": 5_000}, "degraded_after_ms", "shorter than timeout"),
        ({"degraded_after_ms": 60_001}, "degraded_after_ms", "whole number from 1"),
        ({"regions": "eu"}, "regions", "list of different regions"),
        ({"regions": ["eu", "eu"]}, "regions", "list of different regions"),
        ({"regions": ["EU"]}, "regions", "list of different regions"),
        ({"regions": [{"a": 1}]}, "regions", "list of different regions"),
        ({"quorum": "most"}, "quorum", "any, majority, all"),
        ({"quorum": "0"}, "quorum", "any, majority, all"),
        ({"quorum": "51"}, "quorum", "any, majority, all"),
        ({"quorum": 2}, "quorum", "as text"),
        ({"depends_on": "db"}, "depends_on", "list of different services"),
        ({"depends_on": ["db", "db"]}, "depends_on", "list of different services"),
        ({"depends_on": ["db", "face-compare"]}, "depends_on", "not name the service itself"),
        ({"assertions": {"source": "code"}}, "assertions", "must be a list"),
    ],
)
def test_what_cannot_work_is_refused_with_its_field_and_reason(changes: dict[str, Any], field: str, reason: str) -> None:
    found = flaws({**GOOD, **changes})
    assert list(found) == [field]
    assert reason in found[field]


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint_url": "http://127.0.0.1:8080/x?y=1"},
        {"endpoint_url": "http://10.1.2.3/"},
        {"endpoint_url": "http://[::1]:8080/"},
        {"endpoint_url": "HTTPS://Example.COM"},
        {"endpoint_url": "http://under_score.local/"},
        {"endpoint_url": "http://한국.kr/"},
        {"kind": "tcp", "endpoint_url": "tcp://db.internal:5432"},
        {"kind": "tcp", "endpoint_url": "tcp://[::1]:5432/"},
        {"display_name_ko": "얼굴 비교"},
        {"display_name_ko": None},
        {"description": "two\nlines"},
        {
            "options": {
                "method": "HEAD",
                "expected_codes": [204, "3xx"],
                "follow_redirects": False,
                "max_body_bytes": 0,
                "verify_tls": False,
            }
        },
        {"check_interval": 1000, "timeout": 999},
        {"retry_interval_ms": 59_999, "degraded_after_ms": 4_999, "regions": ["eu-west", "kr"]},
        {"quorum": "2", "depends_on": ["database", "broker"]},
        {"quorum": "any", "depends_on": []},
        {"retry_interval_ms": None, "degraded_after_ms": None, "regions": [], "assertions": []},
        {"metadata": {"x": "y" * 60_000}},
    ],
)
def test_what_works_is_accepted(changes: dict[str, Any]) -> None:
    assert flaws({**GOOD, **changes}) == {}


def test_every_flaw_is_named_at_once() -> None:
    found = flaws({"id": "X", "check_interval": 1, "kind": "smoke", "zzz": 1})
    assert set(found) == {"id", "name", "endpoint_url", "check_interval", "kind", "zzz"}


def test_denied_and_allowed_networks_are_the_installations_choice() -> None:
    inner = {**GOOD, "endpoint_url": "http://10.1.2.3/"}
    assert "denied" in flaws(inner, HostRules(denied=(ip_network("10.0.0.0/8"),)))["endpoint_url"]
    assert "none of the allowed" in flaws(inner, HostRules(allowed=(ip_network("192.168.0.0/16"),)))["endpoint_url"]
    assert flaws(inner, HostRules(allowed=(ip_network("10.0.0.0/8"),))) == {}


def test_allowing_everything_does_not_allow_metadata() -> None:
    rules = HostRules(allowed=(ip_network("0.0.0.0/0"),))
    assert rules.refusal("169.254.169.254") is not None
    assert rules.refusal("::ffff:169.254.169.254") is not None


def test_a_change_is_judged_as_a_whole() -> None:
    present = define(GOOD, ANY, LANGUAGE)
    assert isinstance(present, Definition)
    assert isinstance(amend(present, {"check_interval": 5000}, ANY, LANGUAGE), Rejected)  # the timeout is 5000
    changed = amend(present, {"check_interval": 6000, "id": "face-compare"}, ANY, LANGUAGE)
    assert isinstance(changed, Definition)
    assert changed.check_interval == 6000
    moved = amend(present, {"id": "other"}, ANY, LANGUAGE)
    assert isinstance(moved, Rejected)
    assert moved.flaws[0].field == "id"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), json_values, max_size=8))
def test_whatever_is_sent_is_judged_and_never_breaks_the_judge(values: dict[str, Any]) -> None:
    judged = define(values, ANY, LANGUAGE)
    assert isinstance(judged, Definition) or judged.flaws


@given(name=st.sampled_from(FIELDS), value=json_values)
def test_one_strange_value_is_named_or_accepted(name: str, value: object) -> None:
    judged = define({**GOOD, name: value}, ANY, LANGUAGE)
    assert isinstance(judged, Definition) or all(flaw.field.split(".")[0] in {name, "endpoint_url", "timeout"} for flaw in judged.flaws)
