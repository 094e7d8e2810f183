"""The broker's metrics, for Prometheus. Durations are in seconds; every label but `user` has few values."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
"""A registry of our own: the library's metrics of the process need files that the broker's unit hides."""

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
ROUND_TRIP_SECONDS = Histogram(
    "twinlock_spawner_round_trip_seconds", "From a request to the spawner's answer", buckets=_BUCKETS, registry=REGISTRY
)
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
AUDIT_WRITABLE = Gauge(
    "twinlock_audit_writable",
    "Whether the last audit record was written; also 1 if the endpoint keeps no audit log",
    registry=REGISTRY,
)
AUDIT_WRITABLE.set(1)
