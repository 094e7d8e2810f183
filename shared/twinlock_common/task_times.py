"""The histograms in which endpoints tell the broker how long tasks take: their names and their buckets.

Broker and endpoint may be of different versions, so whoever changes the buckets has to change the names as well.
"""

BOUNDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""The upper ends of the buckets, in seconds; each belongs to its bucket. One more bucket has what took longer."""

WAIT = "task_queue_seconds"
"""The name of the histogram of how long tasks waited: from the arrival at their endpoint until a worker began them."""

RUN = "task_seconds"
"""The name of the histogram of how long workers had them."""
