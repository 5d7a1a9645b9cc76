"""Percentiles from mergeable sketches (DDSketch: Masson, Rim, Lee, VLDB 2019): each within 1 % of the true value.

A sketch is how many times lay in each bin: a time of x ms lies in bin ceil(ln(x) / ln(1.01 / 0.99)). PostgreSQL counts the bins
(rollups.py) and adds sketches up, bin by bin; here they are read with the library's own mapping and quantile.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
LEAST_MS = 0.001
"""Shorter times are counted as this: the sketch's error is relative, and nothing is measured more finely."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Response times in milliseconds."""

    p50: float
    p95: float
    p99: float


def percentiles(bins: Iterable[tuple[int, int]]) -> Percentiles | None:
    """Return the percentiles of (bin, count) pairs, in any order and a bin as often as it likes; None of nothing."""
    store = DenseStore()
    for key, count in bins:
        store.add(key, count)
    whole = BaseDDSketch(LogarithmicMapping(RELATIVE_ERROR), store, DenseStore(), 0.0)
    p50, p95, p99 = (whole.get_quantile_value(share) for share in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return None
    return Percentiles(round(p50, 3), round(p95, 3), round(p99, 3))
