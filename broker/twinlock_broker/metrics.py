"""The broker's metrics, for Prometheus. Durations are in seconds; every label but `user` has few values."""

import contextlib
import importlib.metadata
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.registry import Collector
from twinlock_common.task_times import BOUNDS, RUN, WAIT

from twinlock_broker.summed_histogram import SummedHistogram

REGISTRY = CollectorRegistry()
"""A registry of our own: the library's metrics of the process need files that the broker's unit hides."""

BUILD_INFO = Gauge("twinlock_build_info", "Always 1; the label is the broker's version", ["version"], registry=REGISTRY)
BUILD_INFO.labels(importlib.metadata.version("twinlock")).set(1)

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

COMMANDS = Counter(
    "twinlock_commands",
    "Start commands by outcome: carried_out, refused (the user was told), dropped (nobody can be told), "
    "duplicate (delivered again after it had been decided)",
    ["outcome"],
    registry=REGISTRY,
)
STARTS = Counter(
    "twinlock_starts",
    "Starts by outcome: started, or the stage at which the spawner or the administrator refused it",
    ["outcome"],
    registry=REGISTRY,
)
START_SECONDS = Histogram(
    "twinlock_start_seconds", "From a checked command to its start", buckets=_BUCKETS, registry=REGISTRY
)
START_STAGE_SECONDS = Histogram(
    "twinlock_start_stage_seconds",
    "The stages of starts, those that failed included: queue (each wait for its turn, be it for the person's other "
    "commands or because of the spawner's rate limits), mapping (of the identities, with the look-up of the account), "
    "rendering, spawn (from the request to the spawner until its answer), online (from then until the endpoint has "
    "connected to the broker, which the agent's never does)",
    ["stage"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
QUEUE = START_STAGE_SECONDS.labels("queue")
MAPPING = START_STAGE_SECONDS.labels("mapping")
RENDERING = START_STAGE_SECONDS.labels("rendering")
SPAWN = START_STAGE_SECONDS.labels("spawn")
ONLINE = START_STAGE_SECONDS.labels("online")
ROUND_TRIP_SECONDS = Histogram(
    "twinlock_spawner_round_trip_seconds", "From a request to the spawner's answer", buckets=_BUCKETS, registry=REGISTRY
)
TASK_QUEUE_SECONDS = SummedHistogram(
    f"twinlock_{WAIT}",
    "How long tasks waited, from their arrival at their endpoint until a worker began them, by the endpoints' word; a "
    "task is counted when a worker has answered it",
    BOUNDS,
)
REGISTRY.register(TASK_QUEUE_SECONDS)
TASK_SECONDS = SummedHistogram(
    f"twinlock_{RUN}",
    "How long workers had these tasks, by the workers' clocks and the endpoints' word",
    BOUNDS,
)
REGISTRY.register(TASK_SECONDS)
NOTICES = Counter(
    "twinlock_notices",
    "Failure notices to users: sent, lost (the user wasn't told), void (a newer start came first)",
    ["outcome"],
    registry=REGISTRY,
)
NOTICES_WAITING = Gauge("twinlock_notices_waiting", "Failure notices that haven't gone out yet", registry=REGISTRY)
REFUSED_RESULTS = Gauge(
    "twinlock_refused_results",
    "Results that RabbitMQ refused for good, of the running user endpoints",
    registry=REGISTRY,
)
DRAINING = Gauge("twinlock_draining", "Whether `twinlock drain` is in force", registry=REGISTRY)
BLOCKED_ACCOUNTS = Gauge("twinlock_blocked_accounts", "Accounts that are blocked", registry=REGISTRY)
AMQP_CONNECTED = Gauge(
    "twinlock_amqp_connected", "Whether a connection is up: commands, heartbeats", ["link"], registry=REGISTRY
)
AMQP_CONNECTIONS = Counter("twinlock_amqp_connections", "Connections made", ["link"], registry=REGISTRY)
HEARTBEATS = Counter("twinlock_heartbeats", "Heartbeats that RabbitMQ has accepted", registry=REGISTRY)
SPAWNER_CONNECTED = Gauge("twinlock_spawner_connected", "Whether the spawner is connected", registry=REGISTRY)
DROPPED = Counter(
    "twinlock_dropped",
    "What the broker has left out because of its limits: log_lines (of its log; some are counted in a later line), "
    "connections (to its sockets and to its metrics, from accounts with too many), task_times (messages in which an "
    "endpoint tells times of its tasks that can't be true)",
    ["what"],
    registry=REGISTRY,
)
DROPPED_LOG_LINES = DROPPED.labels("log_lines")
DROPPED_CONNECTIONS = DROPPED.labels("connections")
DROPPED_TASK_TIMES = DROPPED.labels("task_times")

# Prometheus sees no increase of a series that begins with its first event.
for _outcome in ("carried_out", "refused", "dropped", "duplicate"):
    COMMANDS.labels(_outcome)
for _outcome in ("sent", "lost", "void"):
    NOTICES.labels(_outcome)
for _link in ("commands", "heartbeats"):
    AMQP_CONNECTED.labels(_link)

# Those below are exported only where they have a meaning: an alarm mustn't go off where there is nothing to watch.
AUDIT_WRITABLE = Gauge(
    "twinlock_audit_writable",
    "Whether the last audit record was written; only if the endpoint keeps an audit log",
    registry=None,
)
MAPPING_VALID = Gauge(
    "twinlock_mapping_valid",
    "Whether the identity mapping in force is that of the file as it is now; 0 if the changed file can't be used, so "
    "that the former mapping is in force; only if identities are mapped",
    registry=None,
)
MAPPING_LOADED = Gauge(
    "twinlock_mapping_loaded_timestamp_seconds",
    "When the identity mapping in force was read, in seconds since 1970; only if identities are mapped",
    registry=None,
)


@contextlib.contextmanager
def exported(*metrics: Collector) -> Iterator[None]:
    """Export also these metrics while the block runs."""
    with contextlib.ExitStack() as stack:
        for metric in metrics:
            REGISTRY.register(metric)
            stack.callback(REGISTRY.unregister, metric)
        yield
