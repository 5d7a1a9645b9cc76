"""Percentiles of a day from a mergeable sketch (DDSketch: Masson, Rim, Lee, VLDB 2019): each within 1 % of the true value.

Sketches of the same kind add up without loss, in any order. The library's own serialisation needs protobuf and forgets the
bounds of the store, so the bins are kept here as they are: a format byte, the lowest key, and a count for each key from there.
"""

import struct
import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore

RELATIVE_ERROR = 0.01
LEAST_MS = 0.001
"""Shorter times are counted as this: the sketch's error is relative, and nothing is measured more finely."""

_FORMAT = 1
_HEAD = struct.Struct("<Bi")


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Response times in milliseconds."""

    p50: float
    p95: float
    p99: float


class Sketch:
    """Response times of one service and day."""

    def __init__(self, data: bytes | None = None) -> None:
        """Begin empty, or as `to_bytes` left it. Raises `ValueError` for a format of another version."""
        self._store = DenseStore()
        if data is not None:
            _fill(self._store, data)
        self._sketch = BaseDDSketch(LogarithmicMapping(RELATIVE_ERROR), self._store, DenseStore(), 0.0)

    def add(self, times_ms: Iterable[float]) -> None:
        """Count response times, in milliseconds."""
        for one in times_ms:
            self._sketch.add(max(one, LEAST_MS))

    def percentiles(self) -> Percentiles | None:
        """Return the percentiles, or None of an empty sketch."""
        found = [self._sketch.get_quantile_value(share) for share in (0.5, 0.95, 0.99)]
        p50, p95, p99 = (round(one, 3) if one is not None else None for one in found)
        return None if p50 is None or p95 is None or p99 is None else Percentiles(p50, p95, p99)

    def to_bytes(self) -> bytes:
        """Return what `Sketch(data)` reads again: the same bytes for the same values, whatever order they came in."""
        store = self._store
        if store.count == 0:
            return _HEAD.pack(_FORMAT, 0)
        first, last = int(store.min_key) - store.offset, int(store.max_key) - store.offset
        counts = array("I", (int(one) for one in store.bins[first : last + 1]))
        return _HEAD.pack(_FORMAT, int(store.min_key)) + zlib.compress(counts.tobytes(), level=1)


def _fill(store: DenseStore, data: bytes) -> None:
    version, lowest = _HEAD.unpack_from(data)
    if version != _FORMAT:
        msg = f"sketch format {version} is not known to this version"
        raise ValueError(msg)
    if len(data) == _HEAD.size:
        return
    counts = array("I")
    counts.frombytes(zlib.decompress(data[_HEAD.size :]))
    store.bins = [float(one) for one in counts]
    store.offset = store.min_key = lowest
    store.max_key = lowest + len(counts) - 1
    store.count = float(sum(counts))
