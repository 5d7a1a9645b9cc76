"""Whatever is answered, judging it ends, and says what it must. Cases: test_assertions.py."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.checker.assertions import judge, read_assertions, verdicts
from services.checker.assertions.comparisons import COMPARISONS
from services.checker.domain.kinds import Kind, Source
from services.checker.domain.target import NO_FACTS, Facts, Measurement, Target, Times
from shared.contracts.codes import Outcome

SOURCES = {
    "code": Source("number"),
    "header": Source("texts", None),
    "body": Source("text"),
    "json": Source("json", None),
    "html": Source("texts", None),
    "response_time": Source("number"),
    "phase": Source("number", ("connect", "total")),
    "value": Source("json", ("one", "two")),
}
KIND = Kind("every", "Every source", ("every",), "every://host", lambda _: (None, []), {}, sources=SOURCES)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.just("a"), inner, max_size=4),
    max_leaves=12,
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
PATHS = st.sampled_from(["$", "$.a", "$..a", "$[*]", "$[0]", "$.a[?@.a]", "$..[?search(@.a, 'a')]", "$[-1:]", "$.a.a"])
SELECTORS = st.sampled_from(["", "p", "body", "p > b", "[a]", "p:has(b)", "*"])
BODIES = (
    st.binary(max_size=300)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.text(alphabet="<>/pb= a\"'!-\n", max_size=120).map(str.encode)
)
HEADERS = st.lists(st.tuples(st.sampled_from(["content-type", "X-A", "x-a", "Cookie"]), st.text(max_size=40)), max_size=4).map(tuple)
VALUES = st.fixed_dictionaries({}, optional={"value": JSON | st.tuples(st.text(), st.integers()), "code": JSON})
MEASUREMENTS = st.builds(
    Measurement,
    outcome=st.sampled_from([Outcome.HEALTHY, Outcome.DEGRADED]),
    response_time_ms=st.none() | st.floats(0, 1e6),
    status_code=st.none() | st.integers(0, 999),
    times=st.builds(Times, connect_ms=st.none() | st.floats(0, 1e6)),
    facts=st.builds(Facts, HEADERS, BODIES, st.booleans(), VALUES),
)


@st.composite
def written(draw: st.DrawFn) -> dict[str, Any]:
    """Give an assertion that reads, or one that nearly does."""
    source = draw(st.sampled_from(sorted(SOURCES)))
    properties = {"json": PATHS, "html": SELECTORS, "header": st.sampled_from(["x-a", "Content-Type"])}
    property_ = draw(properties.get(source, st.sampled_from(SOURCES[source].properties or ("",))))
    return {
        "source": source,
        "property": property_,
        "comparison": draw(st.sampled_from(sorted(COMPARISONS))),
        "target": draw(SCALARS | st.just("a")),
        "severity": draw(st.sampled_from(["down", "degraded"])),
    }


def holding(measurement: Measurement, one: dict[str, Any]) -> tuple[bool, str] | None:
    """Return whether an assertion holds, and what was found; None if it cannot be read."""
    compiled, flaws = read_assertions([one], KIND)
    if flaws:
        return None
    verdict = verdicts(measurement, Target("one", "every", "every://host", 60_000, 5_000, None, 0, 1, assertions=compiled))[0]
    return verdict.failure is None, verdict.found


def told(found: str) -> bool:
    """Say whether an answer could be judged at all."""
    return not found.startswith(("the answer", "the JSONPath"))


@given(MEASUREMENTS, st.lists(written(), max_size=6))
def test_judging_never_raises_never_mends_and_leaves_nothing_behind(measurement: Measurement, ones: list[dict[str, Any]]) -> None:
    compiled = tuple(one for each in ones for one in read_assertions([each], KIND)[0])
    target = Target("one", "every", "every://host", 60_000, 5_000, None, 0, 1, degraded_after_ms=500, assertions=compiled)
    judged = judge(measurement, target)
    assert judged.facts is NO_FACTS or judged.facts == NO_FACTS
    assert judged.outcome in {measurement.outcome, Outcome.DEGRADED, Outcome.FAILED}
    assert len(judged.failures) == sum(verdict.failure is not None for verdict in verdicts(measurement, target))
    assert (judged.outcome is Outcome.FAILED) == any(one.severity == "down" for one in judged.failures)
    for text in (*(one.found for one in judged.failures), judged.evidence or "", judged.error_message or ""):
        text.encode()  # no surrogates
        assert "\x00" not in text
        assert len(text.encode()) <= 1_024


@given(MEASUREMENTS, written(), st.sampled_from(["equals", "contains", "matches", "exists"]))
def test_a_contrary_holds_exactly_where_its_affirmative_does_not(measurement: Measurement, one: dict[str, Any], comparison: str) -> None:
    """Mutant seen red: `not_equals` as "one of them differs"."""
    one = one if comparison != "exists" else one | {"target": None}
    affirmed = holding(measurement, one | {"comparison": comparison})
    denied = holding(measurement, one | {"comparison": f"not_{comparison}"})
    assert (affirmed is None) == (denied is None)
    if affirmed and denied and told(affirmed[1]):
        assert affirmed[0] is not denied[0]


@given(MEASUREMENTS, written(), st.integers(-5, 5) | st.floats(-1e6, 1e6))
def test_numbers_are_in_order(measurement: Measurement, one: dict[str, Any], limit: float) -> None:
    """Mutant seen red: at_most compares with `<`."""
    found = {
        name: holding(measurement, one | {"comparison": name, "target": limit})
        for name in ("less_than", "at_most", "at_least", "greater_than")
    }
    if None in found.values():
        return
    less, most, least, greater = (result[0] for result in found.values() if result)
    assert most or not less
    assert least or not greater
    assert not (less and least)
    assert not (most and greater)
    if one["source"] in {"response_time", "phase", "code"} and found["less_than"] != (False, "nothing"):
        assert less is not least
        assert greater is not most


@given(st.lists(written(), max_size=6))
def test_what_was_read_reads_as_the_same(ones: list[dict[str, Any]]) -> None:
    compiled, flaws = read_assertions(ones, KIND)
    again, flaws_again = read_assertions(json.loads(json.dumps([one.written() for one in compiled])), KIND)
    assert again == compiled
    assert not flaws_again
    assert bool(flaws) == (compiled == () and ones != [])


@given(JSON | st.lists(st.dictionaries(st.sampled_from(["source", "property", "comparison", "target", "severity", "x"]), JSON), max_size=3))
def test_whatever_is_written_is_read_or_refused_by_its_field(value: Any) -> None:  # noqa: ANN401  # JSON
    compiled, flaws = read_assertions(value, KIND)
    assert not (compiled and flaws)
    assert all(flaw.field.startswith("assertions") and flaw.reason for flaw in flaws)
