"""What passes by itself, and how long to wait for it."""

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.database import backoff, is_transient
from shared.messaging import NotConfirmed, Unroutable


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        NotConfirmed("x"),
        Unroutable("x"),
        asyncpg.ConnectionDoesNotExistError("x"),
        asyncpg.InterfaceError("x"),
        asyncpg.CannotConnectNowError("x"),
        asyncpg.AdminShutdownError("x"),
        asyncpg.CrashShutdownError("x"),
        asyncpg.SerializationError("x"),
        asyncpg.DeadlockDetectedError("x"),
        asyncpg.TooManyConnectionsError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_by_itself_is_tried_again(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        KeyError(),
        asyncpg.UniqueViolationError("x"),
        asyncpg.CheckViolationError("x"),
        asyncpg.UndefinedTableError("x"),
        asyncpg.InsufficientPrivilegeError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_bug_is_not(error: Exception) -> None:
    assert not is_transient(error)


@given(first=st.floats(0.01, 1), most=st.floats(1, 60))
def test_waits_grow_to_a_bound_and_are_spread(first: float, most: float) -> None:
    waits = backoff(first_s=first, most_s=most)
    bound = first
    for _ in range(20):
        assert bound / 2 <= next(waits) <= bound
        bound = min(bound * 2, most)
