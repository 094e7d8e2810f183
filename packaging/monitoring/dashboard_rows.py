"""The dashboard's rows and what is in them."""

from dashboard_panels import AT, Panel, bars, events, gauge, heatmap, lines, per_minute, quantiles, slowest, stat, sums

_DOWN, _UP = ("down", "red"), ("up", "green")
_ALERTS = 'sum by (alertname) (ALERTS{alertname=~"Twinlock.*", alertstate="firing"})'
_WAIT = "From a task's arrival at its endpoint until a worker began it."
_RUN = "How long workers had a task."
_START = "From a checked start command to the start."

HEALTH = (
    stat("Broker", "Whether the broker gives metrics.", (f'up{{job="twinlock", {AT}}}', "{{instance}}"), _DOWN, _UP),
    stat("Spawner", "Whether the spawner is connected.", gauge("twinlock_spawner_connected"), _DOWN, _UP),
    stat("Service", "The connections to its queues.", gauge("twinlock_amqp_connected", "{{link}}"), _DOWN, _UP),
    stat(
        "Identity mapping",
        "Whether its files as they are on disk are in force.",
        gauge("twinlock_mapping_valid"),
        ("former one", "orange"),
        ("in force", "green"),
    ),
    stat(
        "Drain",
        "Whether `twinlock drain` is in force.",
        gauge("twinlock_draining"),
        ("none", "green"),
        ("draining", "orange"),
    ),
    stat("Version", "The version of the broker.", gauge("twinlock_build_info", "{{version}}")),
    stat(
        "Canary",
        "Whether the last task of `twinlock canary` had its result in time.",
        gauge("twinlock_canary_success"),
        ("failed", "red"),
        ("well", "green"),
    ),
    bars("Alerts", "The alerts that fire; docs/monitoring.md says what to do.", (_ALERTS, "{{alertname}}")),
    lines("Heartbeats", "Those that RabbitMQ accepted in a minute.", per_minute("twinlock_heartbeats_total")),
    bars(
        "New connections to the service",
        "A few after a restart of the broker; more of them mean that connections fail.",
        events("twinlock_amqp_connections_total", "link"),
    ),
    lines(
        "Age of the identity mapping",
        "The time since its files were read.",
        (f"time() - twinlock_mapping_loaded_timestamp_seconds{{{AT}}}", "{{instance}}"),
        unit="s",
    ),
    lines(
        "Duration of the canary's task",
        "From the login to the result, or to the failure.",
        gauge("twinlock_canary_seconds"),
        unit="s",
    ),
    lines(
        "Age of the canary's tasks",
        "The time since its last task, and since the last that was well.",
        (f"time() - twinlock_canary_last_run_timestamp_seconds{{{AT}}}", "last"),
        (f"time() - twinlock_canary_last_success_timestamp_seconds{{{AT}}}", "last that was well"),
        unit="s",
    ),
    bars("Left out", "What the broker left out because of its limits.", events("twinlock_dropped_total", "what")),
    lines("Blocked accounts", "Accounts for which nothing is started.", gauge("twinlock_blocked_accounts")),
)

STARTS = (
    bars(
        "Start commands",
        "By outcome. One that is `dropped` couldn't be read, and its user couldn't be told.",
        events("twinlock_commands_total", "outcome"),
    ),
    bars(
        "Starts",
        "By outcome: started, or the stage at which a start was refused.",
        events("twinlock_starts_total", "outcome"),
    ),
    bars(
        "Refused starts",
        "By stage; docs/troubleshooting.md explains the stages.",
        events("twinlock_starts_total", "outcome", 'outcome!="started"'),
    ),
    quantiles("Duration of starts", _START, "twinlock_start_seconds"),
    heatmap("Durations of starts", _START, "twinlock_start_seconds"),
    lines(
        "Duration by stage",
        "What 95 % of the starts don't exceed.",
        slowest("twinlock_start_stage_seconds", "stage"),
        unit="s",
    ),
    quantiles("Answers of the spawner", "From a request to its answer.", "twinlock_spawner_round_trip_seconds"),
)

WORK = (
    lines("User endpoints by state", "All of the spawner's.", sums("twinlock_endpoints", "state")),
    lines("User endpoints by user", "All of the spawner's.", sums("twinlock_endpoints", "user")),
    lines("Tasks", "At the endpoints that are connected to the broker.", sums("twinlock_tasks", "state")),
    lines("Running tasks by user", "Tasks that workers run.", sums("twinlock_tasks", "user", 'state="running"')),
    lines("Queued tasks by user", "Tasks that wait for a worker.", sums("twinlock_tasks", "user", 'state="queued"')),
    lines("Workers", "Of the endpoints that are connected to the broker.", sums("twinlock_workers", "state")),
    lines("Busy workers by user", "Workers with a task.", sums("twinlock_workers", "user", 'state="busy"')),
    lines("Idle workers by user", "Workers without a task.", sums("twinlock_workers", "user", 'state="idle"')),
    bars("Finished tasks", "Tasks that a worker has answered.", events("twinlock_task_seconds_count", "instance")),
    quantiles("Wait of tasks", _WAIT, "twinlock_task_queue_seconds"),
    heatmap("Waits of tasks", _WAIT, "twinlock_task_queue_seconds"),
    quantiles("Duration of tasks", _RUN, "twinlock_task_seconds"),
    heatmap("Durations of tasks", _RUN, "twinlock_task_seconds"),
)

NOTICES = (
    bars(
        "Failure notices",
        "By outcome. Of one that is `lost` the user wasn't told; one that is `void` was out of date.",
        events("twinlock_notices_total", "outcome"),
    ),
    lines("Waiting failure notices", "Those that haven't gone out yet.", gauge("twinlock_notices_waiting")),
    lines(
        "Refused results",
        "Results that RabbitMQ refused, of the user endpoints that are running.",
        gauge("twinlock_refused_results"),
    ),
)

AUDIT = (
    stat(
        "Audit log",
        "Whether the last record of a high assurance endpoint was written.",
        gauge("twinlock_audit_writable"),
        ("not written", "red"),
        ("written", "green"),
    ),
    lines("Audit log over time", "1 if the last record was written.", gauge("twinlock_audit_writable")),
    bars(
        "Starts that the spawner couldn't record",
        "Starts that were refused at the stage `audit`.",
        events("twinlock_starts_total", "outcome", 'outcome="audit"'),
    ),
)

ROWS: dict[str, tuple[Panel, ...]] = {
    "Health": HEALTH,
    "Starts": STARTS,
    "Tasks and workers": WORK,
    "Notices": NOTICES,
    "Audit": AUDIT,
}
