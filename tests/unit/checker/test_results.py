"""Finished checks as messages: what others read is what was found."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.checker.domain.target import Failure, Measurement, Target, Times, failed
from services.checker.probes.http import HttpOptions
from services.checker.results import MAX_BATCH_BYTES, to_batch, to_batches
from services.checker.scheduler import BROKEN, Check
from shared.clock import utc_now
from shared.contracts.checks import CheckBatchV1, CheckResult, FailedAssertion, check_id
from shared.contracts.codes import AssertionSeverity, ErrorType, Outcome
from shared.contracts.registry import decode

TARGET = Target("one", "http", "http://127.0.0.1/", 1000, 900, HttpOptions(), 0, 1)
FAILURE = Failure("body", "", "contains", "ok", AssertionSeverity.DEGRADED, "nothing of it")


def told(*checks: Check) -> tuple[CheckResult, ...]:
    batch = to_batch(checks, batch_id=UUID(int=1), region="seoul", checker="c", at=utc_now())
    assert batch.results == len(checks)
    event = decode(CheckBatchV1.TYPE, batch.body)
    assert event.data.checker == "c"
    return tuple(event.data.results)


def test_everything_that_was_found_arrives() -> None:
    """What is put together without validation is valid: it is read again with it."""
    found = Measurement(
        Outcome.DEGRADED,
        response_time_ms=12.5,
        status_code=200,
        error_type=ErrorType.ASSERTION_FAILED,
        error_message="body does not contain ok",
        times=Times(name_lookup_ms=1.0, total_ms=12.5),
        method="GET",
        failures=(FAILURE,),
        details={"certificate_days": 12.3, "answers": ["a", "b"]},
        evidence="<html>",
    )
    (result,) = told(Check(TARGET, 5_000, utc_now(), found, 3))
    assert (result.service_id, result.region, result.outcome, result.attempt) == ("one", "seoul", Outcome.DEGRADED, 3)
    assert result.id == check_id("one", "seoul", result.scheduled_at)
    assert result.scheduled_at.timestamp() == 5
    assert result.assertions == (
        FailedAssertion(source="body", comparison="contains", target="ok", severity=AssertionSeverity.DEGRADED, found="nothing of it"),
    )
    assert (result.details, result.evidence) == ({"certificate_days": 12.3, "answers": ["a", "b"]}, "<html>")
    assert (result.response_time_ms, result.phases.name_lookup_ms, result.phases.tls_ms) == (12.5, 1.0, None)


def test_plain_checks_carry_nothing_more() -> None:
    began = utc_now()
    healthy, refused = told(
        Check(TARGET, 1_000, began, Measurement(Outcome.HEALTHY, response_time_ms=1.0, status_code=200)),
        Check(TARGET, 2_000, began, failed(ErrorType.CONNECTION_ERROR, "connection refused, while connecting")),
    )
    assert (healthy.attempt, healthy.assertions, healthy.details, healthy.evidence) == (0, (), {}, None)
    assert healthy.checked_at - began < timedelta(milliseconds=1)
    assert (refused.error_type, refused.error_message) == (ErrorType.CONNECTION_ERROR, "connection refused, while connecting")


def test_what_no_database_takes_is_replaced_wherever_it_is() -> None:
    """Seen red with what was found told as it came: the first raises when it is encoded, the second when it is stored."""
    strange, plain = "x\ud800y\0z", "x�y�z"
    found = Measurement(
        Outcome.FAILED,
        error_type=ErrorType.ASSERTION_FAILED,
        error_message=strange,
        failures=(replace(FAILURE, found=strange),),
        details={"name": strange, strange: [strange, {"in": (strange,)}], "days": 1.5},
        evidence=strange,
    )
    (result,) = told(Check(TARGET, 5_000, utc_now(), found))
    assert (result.error_message, result.assertions[0].found, result.evidence) == (plain, plain, plain)
    assert result.details == {"name": plain, plain: [plain, {"in": [plain]}], "days": 1.5}


def endless() -> dict[str, Any]:
    inner: dict[str, Any] = {}
    outer = inner
    for _ in range(400):
        outer = {"in": outer}
    return outer


@pytest.mark.parametrize("details", [{"raw": b"\xff"}, {"raw": object()}, endless()], ids=["bytes", "object", "deep"])
def test_a_result_that_cannot_be_told_is_unknown_and_takes_none_along(details: dict[str, Any]) -> None:
    """Seen red without the second try: the shipper ended, with it the process, and the other results were lost."""
    before = BROKEN._value.get()  # noqa: SLF001  # a counter has no public reading
    fine = Measurement(Outcome.HEALTHY, response_time_ms=1.0, status_code=200)
    first, strange, last = told(
        Check(TARGET, 1_000, utc_now(), fine),
        Check(TARGET, 2_000, utc_now(), replace(fine, details=details), 2),
        Check(TARGET, 3_000, utc_now(), fine),
    )
    assert first.outcome is last.outcome is Outcome.HEALTHY
    assert (strange.outcome, strange.error_type, strange.attempt) == (Outcome.UNKNOWN, ErrorType.UNKNOWN, 2)
    assert strange.error_message == "not checked: defect of the probe: what it found cannot be told"
    assert strange.id == check_id("one", "seoul", strange.scheduled_at)
    assert BROKEN._value.get() == before + 1  # noqa: SLF001  # as above


def test_a_message_is_short_whatever_a_kind_makes_of_an_answer() -> None:
    """Seen red without the cut."""
    (result,) = told(Check(TARGET, 1_000, utc_now(), failed(ErrorType.CONNECTION_ERROR, "x" * 100_000)))
    assert result.error_message == "x" * 300


def large(number: int, size: int) -> Check:
    return Check(TARGET, number * 1_000, utc_now(), Measurement(Outcome.HEALTHY, response_time_ms=1.0, details={"answers": ["x" * size]}))


def test_no_message_is_larger_than_a_broker_takes() -> None:
    """Two hundred results of 100 KiB each, in their order. Seen red with all of them in one message: 20 MiB."""
    batches = to_batches([large(number, 100 * 1024) for number in range(200)], new_id=uuid4, region="seoul", checker="c", at=utc_now())
    assert max(len(batch.body) for batch in batches) <= MAX_BATCH_BYTES
    assert len({batch.batch_id for batch in batches}) == len(batches) == 8
    assert sum(batch.results for batch in batches) == 200
    slots = [one.scheduled_at.timestamp() for batch in batches for one in decode(CheckBatchV1.TYPE, batch.body).data.results]
    assert slots == list(range(200))


def test_one_result_that_is_too_large_by_itself_is_unknown() -> None:
    """Seen red with it in a message of its own, whatever its size."""
    checks = [large(0, 10), large(1, MAX_BATCH_BYTES), large(2, 10)]
    batches = to_batches(checks, new_id=uuid4, region="seoul", checker="c", at=utc_now())
    results = [one for batch in batches for one in decode(CheckBatchV1.TYPE, batch.body).data.results]
    assert [one.outcome for one in results] == [Outcome.HEALTHY, Outcome.UNKNOWN, Outcome.HEALTHY]
    assert results[1].error_message == "not checked: defect of the probe: what it found cannot be told"
