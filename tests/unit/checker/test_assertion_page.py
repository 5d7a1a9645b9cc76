"""docs/assertions.md tells what there is, and its examples can be saved."""

import json
import re

from services.checker.assertions import read_assertions
from services.checker.assertions.answers import PHASES
from services.checker.assertions.comparisons import COMPARISONS
from services.checker.probes import KINDS
from tests.unit.checker.assertion_page import PAGE, page

WRITTEN = PAGE.read_text(encoding="utf-8")


def test_every_source_of_every_kind_is_on_the_page() -> None:
    assert page(WRITTEN) == WRITTEN, "write it anew: python -m tests.unit.checker.assertion_page"


def test_every_comparison_is_on_the_page_and_no_other() -> None:
    rows = WRITTEN.split("## Comparisons")[1].split("\n\n")[1].splitlines()[2:]
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])] == list(COMPARISONS)


def test_every_example_can_be_saved() -> None:
    """Mutant seen red: an example with a source that its kind does not offer."""
    examples = re.findall(r"^\| (\w+) \| `(\{.*?\})` \|", WRITTEN, flags=re.MULTILINE)
    assert len(examples) >= 10
    for kind, example in examples:
        compiled, flaws = read_assertions([json.loads(example.replace("\\|", "|"))], KINDS[kind])
        assert not flaws, example
        assert len(compiled) == 1


def test_what_kinds_offer_is_of_a_known_type() -> None:
    for kind in KINDS.values():
        assert {source.type for source in kind.sources.values()} <= {"number", "text", "texts", "json"}, kind.name
        if "phase" in kind.sources:
            assert set(kind.sources["phase"].properties or ()) <= set(PHASES), kind.name


def test_every_kind_that_connects_offers_its_times_and_its_certificate() -> None:
    """Seen red with kinds that measured both and offered neither."""
    for name in ("http", "tls", "websocket", "grpc", "smtp", "postgres", "mysql", "redis", "rabbitmq"):
        assert {"response_time", "phase", "certificate"} <= KINDS[name].sources.keys(), name
