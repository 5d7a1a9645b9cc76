"""Slots: aligned, strictly increasing, spread, and the same after any restart."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.checker.domain.schedule import due_slot, first_slot, fraction, next_slot, phase, slot_at

moments = st.integers(min_value=0, max_value=4_000_000_000_000)
intervals = st.integers(min_value=1_000, max_value=86_400_000)
ids = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True)


@given(service=ids, interval=intervals, now=moments)
def test_a_slot_is_aligned_and_comes_within_one_interval(service: str, interval: int, now: int) -> None:
    place = phase(service, "r", interval)
    following = next_slot(now, phase_ms=place, interval_ms=interval)
    current = slot_at(now, phase_ms=place, interval_ms=interval)
    assert 0 <= place < interval
    assert (following - place) % interval == (current - place) % interval == 0
    assert current <= now < following == current + interval


@given(service=ids, interval=intervals, now=moments, steps=st.integers(min_value=1, max_value=50))
def test_a_restart_at_any_moment_finds_the_same_slots(service: str, interval: int, now: int, steps: int) -> None:
    place = phase(service, "r", interval)
    slots = [next_slot(now, phase_ms=place, interval_ms=interval)]
    for _ in range(steps):
        slots.append(next_slot(slots[-1], phase_ms=place, interval_ms=interval))
    assert all(later - earlier == interval for earlier, later in pairwise(slots))
    assert [slot_at(slot + interval - 1, phase_ms=place, interval_ms=interval) for slot in slots] == slots


def test_a_thousand_services_spread_evenly() -> None:
    tenths = [0] * 10
    for number in range(1000):
        tenths[int(fraction(f"service-{number}", "seoul") * 10)] += 1
    assert min(tenths) > 60
    assert max(tenths) < 140


def test_regions_look_at_different_times() -> None:
    assert len({phase("face-liveness", region, 60_000) for region in ("seoul", "tokyo", "frankfurt")}) == 3


@given(now=moments, interval=intervals, before=intervals, done_ago=st.integers(min_value=0, max_value=10_000_000), service=ids)
def test_a_changed_interval_gives_no_slot_twice_and_waits_less_than_one(
    now: int, interval: int, before: int, done_ago: int, service: str
) -> None:
    del before  # whatever it was, only the last slot done matters
    done = now - done_ago
    place = phase(service, "r", interval)
    slot = first_slot(now, created_ms=0, done_ms=done, phase_ms=place, interval_ms=interval)
    assert slot > done
    assert slot <= now + interval


@given(now=moments, interval=intervals, service=ids, age=st.integers(min_value=0, max_value=100_000_000))
def test_the_first_slot_is_the_current_one_but_never_before_the_service_existed(now: int, interval: int, service: str, age: int) -> None:
    slot = first_slot(now, created_ms=now - age, done_ms=None, phase_ms=phase(service, "r", interval), interval_ms=interval)
    assert now - min(interval, age + 1) < slot <= now


@given(slot=moments, late=st.integers(min_value=0, max_value=100_000_000), interval=intervals, service=ids)
def test_what_is_more_than_an_interval_late_is_skipped_and_counted(slot: int, late: int, interval: int, service: str) -> None:
    place = phase(service, "r", interval)
    slot = slot_at(slot, phase_ms=place, interval_ms=interval)
    due, skipped = due_slot(slot, slot + late, phase_ms=place, interval_ms=interval)
    assert slot + late - due <= interval
    assert due == slot + skipped * interval
    assert (skipped == 0) == (late <= interval)
