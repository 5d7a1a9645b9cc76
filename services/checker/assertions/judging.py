"""What a measurement means under a target's assertions: the outcome, each failure with what was found instead, and the evidence."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

from services.checker.assertions.answers import CUT, MAX_DOCUMENT, Answer, Found
from services.checker.assertions.comparisons import COMPARISONS, as_text
from services.checker.assertions.reading import Assertion
from services.checker.domain.redact import MASK, is_secret_name, redact, storable
from services.checker.domain.target import NO_FACTS, Failure, Measurement, Target
from shared.contracts.codes import AssertionSeverity, ErrorType, Outcome

MAX_FOUND = 200
MAX_MESSAGE = 300
EVIDENCE_BYTES = 1_024
WINDOW = 4_096
"""So much is redacted of what is then cut much shorter: a secret that the cut would break in two is still known as one."""
LONG_BODY = 32_768
DOCUMENTS = frozenset({"json", "html"})
NOT_JUDGED = "not judged: the check brought no answer that could be"

_THREAD = ThreadPoolExecutor(1, thread_name_prefix="judging")
"""One at a time: threads share the interpreter, so that several at work are no faster, and the loop waits longer for each of its turns."""
_ANSWERS = frozenset({Outcome.HEALTHY, Outcome.DEGRADED})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one assertion fared: None in `failure` if it holds."""

    failure: Failure | None
    found: str


def is_long_work(found: Measurement, target: Target) -> bool:
    """Say whether judging is better done on a thread: the answer is large, and somebody looks into it."""
    return bool(target.assertions) and len(found.facts.body) > LONG_BODY


async def elsewhere(act: Callable[[Measurement, Target], T], found: Measurement, target: Target) -> T:
    """Return what `judge` or `verdicts` returns, made out on the one thread that does long work, in turn."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, act, found, target)


def judge(found: Measurement, target: Target) -> Measurement:
    """Return what a measurement means under the target's assertions and `degraded_after_ms`: without facts, with failures and evidence.

    Only an answer is judged, and it can only become worse; what failed or was not learnt stays as it is. Raises nothing, whatever the
    answer holds.
    """
    if found.outcome not in _ANSWERS:
        return _without_facts(found, target, failing=found.outcome is Outcome.FAILED)
    failures: tuple[Failure, ...] = ()
    if target.assertions:
        answer = Answer(found)
        tried = [(one, *_try(one, answer)) for one in target.assertions]
        broken = [(one, looked) for one, holds, looked in tried if not holds]
        if broken:
            secrets = tuple(secrets_of(target.options))
            failures = tuple(_failure(one, looked, answer, secrets) for one, looked in broken)
            found = _worse(found, broken, failures, secrets)
    limit, took = target.degraded_after_ms, found.response_time_ms
    if limit is not None and took is not None and took > limit and found.outcome is Outcome.HEALTHY:
        found = replace(found, outcome=Outcome.DEGRADED, error_type=ErrorType.ASSERTION_FAILED, error_message=f"slower than {limit} ms")
    return _without_facts(found, target, failing=bool(failures))


def verdicts(found: Measurement, target: Target) -> list[Verdict]:
    """Return how every assertion fared, in their order, for a trial. Give the measurement as the probe returned it, with its facts."""
    if found.outcome not in _ANSWERS:
        return [Verdict(_as_failure(one, NOT_JUDGED), NOT_JUDGED) for one in target.assertions]
    answer, secrets = Answer(found), tuple(secrets_of(target.options))
    told = []
    for one in target.assertions:
        holds, looked = _try(one, answer)
        shown = _shown(one, looked, answer, secrets)
        told.append(Verdict(None if holds else _as_failure(one, shown), shown))
    return told


def _try(one: Assertion, answer: Answer) -> tuple[bool, Found]:
    """Return whether an assertion holds, and what it found; what cannot be told does not hold."""
    looked = one.look(answer)
    if looked.trouble is not None:
        return False, looked
    holds = one.holds(looked)
    return (False, replace(looked, trouble=CUT)) if holds is None else (holds, looked)


def _worse(
    found: Measurement, broken: list[tuple[Assertion, Found]], failures: tuple[Failure, ...], secrets: tuple[str, ...]
) -> Measurement:
    first, looked = next(((one, looked) for one, looked in broken if one.severity is AssertionSeverity.DOWN), broken[0])
    return replace(
        found,
        outcome=Outcome.FAILED if first.severity is AssertionSeverity.DOWN else Outcome.DEGRADED,
        error_type=ErrorType.ASSERTION_FAILED,
        error_message=_message(first, looked, secrets),
        failures=failures,
    )


def _message(one: Assertion, looked: Found, secrets: tuple[str, ...]) -> str:
    """Return what was expected, in words that are the same at every check."""
    where = f"{one.source} {one.property}" if one.property else one.source
    what = "" if one.target is None and one.comparison.endswith("exists") else f" {json.dumps(one.target, ensure_ascii=False)}"
    but = f", but {looked.trouble}" if looked.trouble else ""
    sentence = redact(f"expected {where} {COMPARISONS[one.comparison].words}{what}", secrets)
    return storable(sentence)[: MAX_MESSAGE - len(but)] + but


def _failure(one: Assertion, looked: Found, answer: Answer, secrets: tuple[str, ...]) -> Failure:
    return _as_failure(one, _shown(one, looked, answer, secrets))


def _as_failure(one: Assertion, found: str) -> Failure:
    return Failure(one.source, one.property, one.comparison, one.target, one.severity, found)


def _shown(one: Assertion, looked: Found, answer: Answer, secrets: tuple[str, ...]) -> str:
    """Return what was found, short enough and without secrets."""
    if looked.trouble == CUT:
        most = MAX_DOCUMENT if one.source in DOCUMENTS else len(answer.facts.body)
        return f"the answer was cut at {min(most, len(answer.facts.body))} bytes"
    if looked.trouble is not None:
        return looked.trouble
    if not looked.values:
        return "nothing"
    if is_secret_name(one.property):
        return MASK
    window, cut = _window(_listed(looked.values))
    shown = _safe(window, secrets, cut=cut)
    return shown if len(shown) <= MAX_FOUND else f"{shown[: MAX_FOUND - 1]}…"


def _listed(values: tuple[Any, ...]) -> str:
    """Return values as text, up to as much as is looked at: each may be the whole of a large answer."""
    listed, size = [], 0
    for value in values[:MAX_FOUND]:
        listed.append(_plain(value))
        size += len(listed[-1])
        if size > WINDOW:
            break
    return ", ".join(listed)


def _plain(value: Any) -> str:  # noqa: ANN401  # JSON
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else as_text(value)


def _without_facts(found: Measurement, target: Target, *, failing: bool) -> Measurement:
    if found.facts is NO_FACTS:
        return found
    evidence = _evidence(found, target) if failing and found.facts.body else found.evidence
    return replace(found, facts=NO_FACTS, evidence=evidence)


def _evidence(found: Measurement, target: Target) -> str:
    """Return the first KiB of an answer, without what must not be seen."""
    window, cut = _window(Answer(found).text)
    shown = _safe(window, tuple(secrets_of(target.options)), cut=cut)
    return shown.encode()[:EVIDENCE_BYTES].decode(errors="ignore")


def _window(text: str) -> tuple[str, bool]:
    return text[:WINDOW], len(text) > WINDOW


def _safe(text: str, secrets: tuple[str, ...], *, cut: bool) -> str:
    redacted = redact(storable(text), secrets)
    # What the window's end broke in two may be half a secret, and shows if much before it became a mask.
    return redacted[: -max(map(len, secrets), default=0) or None] if cut else redacted


def secrets_of(options: Any) -> Iterator[str]:  # noqa: ANN401  # any kind's options
    """Give every secret that a kind's options hold, in clear."""
    if isinstance(options, SecretStr):
        yield options.get_secret_value()
    elif isinstance(options, BaseModel):
        for name in type(options).model_fields:
            yield from secrets_of(getattr(options, name))
    elif isinstance(options, dict):
        for value in options.values():
            yield from secrets_of(value)
    elif isinstance(options, list | tuple):
        for value in options:
            yield from secrets_of(value)
