"""When a service is checked: slots, which every checker and every restart derives alike. Times in milliseconds since the epoch.

The slots of a service in a region are `phase + k * interval`. The phase is a hash, so that services spread evenly over the interval
and a thousand of them with the same interval do not fire at once.
"""

from hashlib import blake2b

_FRACTIONS = 1 << 64


def fraction(service_id: str, region: str) -> float:
    """Return the service's place within any interval: evenly spread over [0, 1), the same everywhere and for ever."""
    digest = blake2b(f"{service_id}/{region}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (_FRACTIONS >> 11)


def phase(service_id: str, region: str, interval_ms: int) -> int:
    """Return how far after a multiple of the interval the service's slots lie: 0 <= phase < interval."""
    return int(fraction(service_id, region) * interval_ms)


def next_slot(after_ms: int, *, phase_ms: int, interval_ms: int) -> int:
    """Return the first slot strictly after a moment."""
    return after_ms + interval_ms - (after_ms - phase_ms) % interval_ms


def slot_at(now_ms: int, *, phase_ms: int, interval_ms: int) -> int:
    """Return the newest slot that is not after a moment."""
    return now_ms - (now_ms - phase_ms) % interval_ms


def first_slot(now_ms: int, *, created_ms: int, done_ms: int | None, phase_ms: int, interval_ms: int) -> int:
    """Return the slot to begin with: after a start, or after the definition changed.

    It is the current one, so that news come at once and not after a whole interval; a new service's first slot is its creation,
    so that nothing counts for a time before it existed. A slot up to `done_ms`, the last one done, is never given again.
    """
    current = max(slot_at(now_ms, phase_ms=phase_ms, interval_ms=interval_ms), created_ms)
    if done_ms is None or current > done_ms:
        return current
    return next_slot(done_ms, phase_ms=phase_ms, interval_ms=interval_ms)


def slot_after(done_ms: int, *, created_ms: int, phase_ms: int, interval_ms: int) -> int:
    """Return the first slot after the last one done, by whomever: what to begin with where somebody else's work is taken over."""
    return max(next_slot(done_ms, phase_ms=phase_ms, interval_ms=interval_ms), created_ms)


def due_slot(slot_ms: int, now_ms: int, *, phase_ms: int, interval_ms: int) -> tuple[int, int]:
    """Return the slot to check now and how many were missed: what is more than one interval late is not made up for."""
    if now_ms - slot_ms <= interval_ms:
        return slot_ms, 0
    newest = slot_at(now_ms, phase_ms=phase_ms, interval_ms=interval_ms)
    # A first slot may lie between two aligned ones: it counts as one of its own.
    return newest, 1 + (newest - slot_ms - 1) // interval_ms


def missed_slots(slot_ms: int, newest_ms: int, *, interval_ms: int, most: int) -> list[int]:
    """Return the slots from `slot_ms` on that come before `newest_ms`, in order; where they are more than `most`, the newest of them."""
    if slot_ms >= newest_ms:
        return []
    aligned = range(newest_ms - interval_ms, slot_ms, -interval_ms)[:most]
    return [*([slot_ms] if len(aligned) < most else []), *reversed(aligned)]
