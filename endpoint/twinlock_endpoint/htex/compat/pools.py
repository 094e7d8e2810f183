"""The uses of Parsl by the interchange and pools of workers, and by the messages between them."""

from twinlock_endpoint.htex.compat.use import Use

_INTERCHANGE = "parsl.executors.high_throughput.interchange:Interchange."
_POOL = "parsl.executors.high_throughput.process_worker_pool:"

USES = (
    Use(
        f"{_INTERCHANGE}__init__",
        "interchange",
        "all of its arguments",
        "2026.6.1",
        takes=(
            "client_address client_ports interchange_address worker_port worker_port_range hub_address "
            "hub_zmq_port logdir heartbeat_threshold poll_period logging_level cert_dir manager_selector run_id "
            "log_config _check_python_mismatch"
        ),
        names=("manager_sock command_channel task_incoming results_outgoing pending_task_queue _ready_managers"),
    ),
    Use(
        f"{_INTERCHANGE}start",
        "interchange",
        "its loop, and the steps that are extended",
        "2026.1.5",
        names=(
            "socks process_command process_task_incoming process_manager_socket_message expire_bad_managers "
            "process_tasks_to_send"
        ),
    ),
    Use(
        f"{_INTERCHANGE}process_manager_socket_message",
        "interchange",
        "reads one message at a call; a result is one",
        "2026.10.5",
        takes="interesting_managers monitoring_radio kill_event",
        names="manager_sock results_outgoing",
    ),
    Use(
        f"{_INTERCHANGE}process_task_incoming",
        "interchange",
        "reads one task at a call",
        "2026.1.5",
        names="task_incoming pending_task_queue",
    ),
    Use(
        f"{_INTERCHANGE}process_command",
        "interchange",
        "reads the command that it is given",
        "2026.1.5",
        takes="monitoring_radio",
        names="command_channel",
    ),
    Use(
        f"{_INTERCHANGE}process_tasks_to_send",
        "interchange",
        "sends what it has just taken",
        "2026.1.5",
        takes="interesting_managers monitoring_radio",
        names="get_tasks manager_sock",
    ),
    Use(
        f"{_INTERCHANGE}expire_bad_managers",
        "interchange",
        "drops pools that weren't heard of",
        "2026.1.5",
        takes="interesting_managers monitoring_radio",
        names="heartbeat_threshold",
    ),
    Use(
        f"{_INTERCHANGE}get_tasks",
        "interchange",
        "extended: notes what is sent",
        "2026.1.5",
        takes="count",
        names="pending_task_queue",
    ),
    Use(
        "parsl.executors.high_throughput.interchange:PKL_HEARTBEAT_CODE",
        "interchange",
        "the answer to a heartbeat",
        "2026.1.5",
    ),
    Use(
        f"{_POOL}Manager.__init__",
        "pool",
        "all of its arguments",
        "2026.6.1",
        takes=(
            "port addresses address_probe_timeout uid block_id cores_per_worker mem_per_worker "
            "max_workers_per_node prefetch_capacity heartbeat_threshold heartbeat_period drain_period poll_period "
            "cpu_affinity enable_mpi_mode mpi_launcher available_accelerators cert_dir log_config"
        ),
        names="worker_count zmq_context _ix_url",
    ),
    Use(f"{_POOL}Manager.create_reg_message", "pool", "what a pool says first", "2026.10.19", names="drain_time"),
    Use(f"{_POOL}Manager.heartbeat_to_incoming", "pool", "sends a heartbeat", "2026.1.5", takes="task_incoming"),
    Use(f"{_POOL}get_arg_parser", "pool", "reads the workers' command", "2026.1.5"),
    Use(
        f"{_POOL}worker",
        "pool_worker",
        "a worker's loop, with pipes in the place of queues",
        "2026.6.1",
        takes=(
            "worker_id pool_id pool_size task_queue result_queue monitoring_queue ready_worker_count "
            "tasks_in_progress cpu_affinity accelerator block_id task_queue_timeout manager_pid logdir log_config "
            "debug mpi_launcher"
        ),
    ),
    Use(f"{_POOL}SHUTDOWN_CODE", "pool", "what ends a pool", "2026.10.19"),
    Use(f"{_POOL}HEARTBEAT_CODE", "pool", "the answer to a heartbeat", "2026.1.5"),
    Use(f"{_POOL}SpawnContext", "pool", "replaced: nothing is shared with workers", "2026.1.5"),
    Use(f"{_POOL}distributions", "pool", "replaced: only a few packages are reported", "2026.1.5"),
    Use(f"{_POOL}probe_addresses", "pool", "replaced: not under the pool's own name", "2026.1.5"),
    Use(f"{_POOL}serialize", "pool_worker", "replaced: bytes need no dill", "2026.1.5"),
    Use(f"{_POOL}set_file_logger", "pool_worker", "replaced: a full disk ends no worker", "2026.3.2"),
    Use(f"{_POOL}logger", "pool", "less of its log", "2026.3.2"),
    Use(
        "parsl.executors.high_throughput.probe:probe_addresses",
        "pool",
        "called, and replaced on nodes",
        "2026.1.5",
        takes="zmq_context addresses timeout_ms",
    ),
    Use(
        "parsl.curvezmq:ClientContext.socket",
        "node.pool",
        "replaced on nodes: a socket that loses nothing",
        "2026.1.5",
        takes="socket_type",
    ),
    Use("parsl.serialize.concretes:DillSerializer.identifier", "messages", "the beginning of a result", "2026.1.5"),
    Use(
        "parsl.app.errors:RemoteExceptionWrapper.get_exception",
        "messages",
        "the error without another frame",
        "2026.1.5",
    ),
    Use("parsl.log_utils:set_file_logger", "pool", "a pool's log", "2026.1.5", takes="filename level"),
    Use("parsl.serialize:serialize", "messages", "an error as a result", "2026.1.5", takes="obj buffer_threshold"),
    Use("parsl.serialize:deserialize", "messages", "the error of a result", "2026.1.5", takes="payload"),
    Use(
        "parsl.executors.high_throughput.errors:WorkerLost.__init__",
        "messages",
        "raised for a worker that died",
        "2026.1.5",
        takes="worker_id hostname",
    ),
)
