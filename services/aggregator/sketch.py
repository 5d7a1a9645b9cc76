"""Percentiles from mergeable sketches (DDSketch: Masson, Rim, Lee, VLDB 2019): each within 1 % of the true value.

A sketch is how many times lay in each bin: a time of x ms lies in bin ceil(ln(x) / ln(1.01 / 0.99)). PostgreSQL counts the bins
(rollups.py) and adds sketches up, bin by bin; here they are read, with the library's own mapping from bins to values.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from ddsketch.mapping import LogarithmicMapping

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
LEAST_MS = 0.001
"""Shorter times are counted as this: the sketch's error is relative, and nothing is measured more finely."""

SHARES = (0.5, 0.95, 0.99)
_MAPPING = LogarithmicMapping(RELATIVE_ERROR)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Response times in milliseconds."""

    p50: float
    p95: float
    p99: float


def percentiles(bins: Iterable[tuple[int, int]]) -> Percentiles | None:
    """Return the percentiles of (bin, count) pairs, in any order and a bin as often as it likes; None of nothing."""
    counts: dict[int, int] = {}
    for key, count in bins:
        counts[key] = counts.get(key, 0) + count
    total = sum(counts.values())
    if total == 0:
        return None
    keys = sorted(counts)
    below = list(accumulate(counts[key] for key in keys))
    # the value whose rank is the share of the greatest rank, as the paper's Algorithm 2 has it
    p50, p95, p99 = (_MAPPING.value(keys[bisect_right(below, share * (total - 1))]) for share in SHARES)
    return Percentiles(round(p50, 3), round(p95, 3), round(p99, 3))
