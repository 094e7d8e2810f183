"""How starts went since the broker's start, out of its metrics: by outcome, and how long they and their stages took."""

from collections import defaultdict
from typing import Any

from prometheus_client import Counter, Histogram
from prometheus_client.samples import Sample

from twinlock_broker import metrics

Times = dict[str, list[float]]
"""A histogram: `bounds` are the upper ends of its buckets in seconds, `counts` how many times are in each.

The last count, for which there is no bound, is of those that took longer.
"""


def start_figures() -> dict[str, Any]:
    """Return commands and starts by outcome, the times of starts, and those of their stages, as JSON has them."""
    return {
        "commands": _by_outcome(metrics.COMMANDS),
        "starts": _by_outcome(metrics.STARTS),
        "seconds": _times(metrics.START_SECONDS).get("") or {"bounds": [], "counts": []},
        "stages": _times(metrics.START_STAGE_SECONDS),
    }


def _by_outcome(counter: Counter) -> dict[str, float]:
    samples = (sample for family in counter.collect() for sample in family.samples)
    return {sample.labels["outcome"]: sample.value for sample in samples if sample.name.endswith("_total")}


def _times(histogram: Histogram) -> dict[str, Times]:
    """Return the times by stage; those of a histogram without stages are under an empty name."""
    buckets: defaultdict[str, list[Sample]] = defaultdict(list)
    for family in histogram.collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                buckets[sample.labels.get("stage", "")].append(sample)
    return {stage: _of_buckets(samples) for stage, samples in buckets.items()}


def _of_buckets(samples: list[Sample]) -> Times:
    """Return the times out of a histogram's samples, each of which counts what is in the buckets below it as well."""
    totals = [sample.value for sample in samples]
    counts = [total - below for total, below in zip(totals, [0.0, *totals], strict=False)]
    return {"bounds": [float(sample.labels["le"]) for sample in samples[:-1]], "counts": counts}
