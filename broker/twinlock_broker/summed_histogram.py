"""A histogram whose times others have counted; the library's own has to be told of each time."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class SummedHistogram(Collector):
    """The sum of histograms with the same buckets, of which `bounds` are the upper ends. A further one has the rest."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = [*map(str, bounds), "+Inf"]
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add so many times in each bucket, whose sum is `total`."""
        self._counts = [before + more for before, more in zip(self._counts, counts, strict=True)]
        self._sum += total

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Yield the histogram."""
        buckets = list(zip(self._bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets, self._sum)
