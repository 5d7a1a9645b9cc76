"""The language of assertions, one for all kinds: read when a service is saved, judged after every check. See docs/assertions.md."""

from dataclasses import dataclass
from typing import Any

from services.checker.domain.kinds import Flaw, Kind
from services.checker.domain.target import Failure, Measurement, Target


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one assertion fared: None in `failure` if it holds."""

    failure: Failure | None
    found: str


def read_assertions(written: Any, kind: Kind) -> tuple[tuple[Any, ...], list[Flaw]]:  # noqa: ANN401  # JSON
    """Return the compiled assertions and every flaw ("assertions.0.comparison"), for a kind that offers certain sources."""
    _ = kind
    return (), [] if written in ([], ()) else [Flaw("assertions", "are not read yet")]


def judge(found: Measurement, target: Target) -> Measurement:
    """Return what a measurement means under the target's assertions and `degraded_after_ms`: without facts, with failures and evidence."""
    raise NotImplementedError


def verdicts(found: Measurement, target: Target) -> list[Verdict]:
    """Return how every assertion fared, in their order, for a trial."""
    raise NotImplementedError
