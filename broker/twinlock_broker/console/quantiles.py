"""Estimates of quantiles out of a histogram, as Prometheus makes them."""

from collections.abc import Sequence
from itertools import accumulate


def quantile(part: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Return what this part of the values are below, such as the median for 0.5; None if there are no values.

    `bounds` are the upper ends of the buckets, and `counts` how many values are in each; a further count is of those
    above, which are taken for the last bound.
    """
    total = sum(counts)
    if not total or not bounds:
        return None
    rank = part * total
    for bound, lower, count, reached in zip(bounds, [0.0, *bounds], counts, accumulate(counts), strict=False):
        if count and reached >= rank:
            return lower + (bound - lower) * (rank - (reached - count)) / count
    return bounds[-1]
