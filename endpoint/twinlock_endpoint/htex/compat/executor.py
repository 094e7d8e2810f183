"""The uses of Parsl by the executor, and by what scales its blocks."""

from twinlock_endpoint.htex.compat.use import Use

_EXECUTOR = "parsl.executors.high_throughput.executor:HighThroughputExecutor."
_BLOCKS = "parsl.executors.status_handling:BlockProviderExecutor."

USES = (
    Use(
        f"{_EXECUTOR}__init__",
        "executor",
        "attributes changed before the start",
        "2026.1.5",
        names=(
            "address all_addresses launch_cmd interchange_launch_cmd _check_python_mismatch "
            "_result_queue_thread_exit _task_counter"
        ),
    ),
    Use(
        f"{_EXECUTOR}start",
        "executor",
        "its three sockets, and the steps that are replaced",
        "2026.1.5",
        names=(
            "outgoing_q incoming_q command_client _start_result_queue_thread _start_local_interchange_process "
            "initialize_scaling"
        ),
    ),
    Use(
        f"{_EXECUTOR}initialize_scaling",
        "executor",
        "formats the workers' command, after its paths were quoted",
        "2026.1.5",
        names="launch_cmd worker_logdir cert_dir",
    ),
    Use(
        f"{_EXECUTOR}_start_local_interchange_process",
        "executor",
        "replaced by a fork of the zygote, with the same arguments",
        "2026.6.1",
        names=(
            "loopback_address address worker_port_range hub_zmq_port logdir heartbeat_threshold poll_period "
            "manager_selector run_id log_config _check_python_mismatch interchange_proc worker_port"
        ),
    ),
    Use(
        f"{_EXECUTOR}_start_result_queue_thread",
        "executor",
        "replaced: the endpoint's loop reads the results",
        "2026.1.5",
    ),
    Use(
        f"{_EXECUTOR}submit_payload",
        "executor",
        "hands a packed task over",
        "2026.1.5",
        takes="context buffer",
        names="tasks outgoing_q _task_counter",
    ),
    Use(
        f"{_EXECUTOR}validate_resource_spec",
        "executor",
        "called with a task's resources",
        "2026.1.5",
        takes="resource_specification",
    ),
    Use(
        f"{_EXECUTOR}connected_managers",
        "scaling",
        "asks the interchange for its pools",
        "2026.1.5",
        names="command_client",
    ),
    Use(
        f"{_EXECUTOR}connected_managers_packages",
        "blocks",
        "asks for the packages of a node",
        "2026.1.5",
        names="command_client",
    ),
    Use(
        f"{_EXECUTOR}connected_blocks",
        "scaling",
        "asks which blocks ever had workers",
        "2026.1.5",
        names="command_client",
    ),
    Use(
        f"{_EXECUTOR}_hold_block",
        "scaling",
        "no more tasks for a block whose job has ended",
        "2026.1.5",
        takes="block_id",
    ),
    Use(
        f"{_EXECUTOR}scale_in",
        "scaling",
        "replaced: a block with a task stays",
        "2026.1.5",
        takes="blocks max_idletime",
    ),
    Use(
        f"{_EXECUTOR}shutdown",
        "executor",
        "ends the interchange",
        "2026.1.5",
        takes="timeout",
        names="_result_queue_thread_exit",
    ),
    Use(
        "parsl.executors.high_throughput.executor:DEFAULT_LAUNCH_CMD",
        "providers.forked",
        "told from a command of the configuration's own",
        "2026.1.5",
    ),
    Use(
        "parsl.executors.high_throughput.mpi_executor:MPIExecutor.validate_resource_spec",
        "executor",
        "called with a task's resources",
        "2026.1.5",
        takes="resource_specification",
    ),
    Use(
        f"{_BLOCKS}__init__",
        "scaling",
        "state of the blocks",
        "2026.1.5",
        names=(
            "_provider _last_poll_time _status _simulated_status blocks_to_job_id job_ids_to_block block_error_handler"
        ),
    ),
    Use(f"{_BLOCKS}_launch_block", "scaling", "extended by the scheduler's own words", "2026.1.5", takes="block_id"),
    Use(
        f"{_BLOCKS}_filter_scale_in_ids",
        "scaling",
        "replaced: a job that can't be cancelled is seen to later",
        "2026.1.5",
        takes="to_kill killed",
    ),
    Use(
        f"{_BLOCKS}scale_out_facade",
        "scaling",
        "called block by block",
        "2026.1.5",
        takes="n",
        names="_launch_block _simulated_status",
    ),
    Use(f"{_BLOCKS}status", "scaling", "called under a lock", "2026.1.5"),
    Use(f"{_BLOCKS}status_facade", "failures", "the states as Parsl's strategy sees them", "2026.1.5"),
    Use(f"{_BLOCKS}status_polling_interval", "scaling", "when Parsl asks the scheduler next", "2026.1.5"),
    Use(
        f"{_BLOCKS}set_bad_state_and_fail_all",
        "executor",
        "extended: the endpoint is told first",
        "2026.1.5",
        takes="exception",
    ),
    Use(
        "parsl.jobs.job_status_poller:JobStatusPoller.__init__",
        "poller",
        "made with the configuration's strategy",
        "2026.1.5",
        takes="strategy max_idletime strategy_period",
        names="_executors",
    ),
    Use(
        "parsl.jobs.job_status_poller:JobStatusPoller.poll",
        "poller",
        "extended by what else is due",
        "2026.1.5",
        names="_executors",
    ),
    Use(
        "parsl.jobs.strategy:Strategy.__init__",
        "strategies",
        "the names of the strategies",
        "2026.1.5",
        takes="strategy max_idletime",
        names="strategies",
    ),
    Use(
        "parsl.jobs.error_handlers:simple_error_handler",
        "failures",
        "told from a rule of the configuration's own, and called",
        "2026.1.5",
        takes="executor status",
    ),
    Use(
        "parsl.jobs.error_handlers:windowed_error_handler",
        "failures",
        "called where blocks have worked",
        "2026.1.5",
        takes="executor status",
    ),
    Use(
        "parsl.executors.high_throughput.zmq_pipes:CommandClient.create_socket_and_bind",
        "questions",
        "its socket",
        "2026.1.5",
        names="zmq_socket port",
    ),
    Use(
        "parsl.executors.high_throughput.zmq_pipes:TasksOutgoing.put",
        "executor",
        "wrapped: sends while the interchange lives",
        "2026.1.5",
        takes="message",
        names="zmq_socket",
    ),
    Use(
        "parsl.executors.high_throughput.zmq_pipes:ResultsIncoming.__init__",
        "executor",
        "its socket, which the loop reads",
        "2026.1.5",
        names="results_receiver port",
    ),
    Use("parsl.jobs.states:JobState", "providers.careful", "what a job is said to be", "2026.1.5"),
    Use(
        "parsl.jobs.states:JobStatus.__init__",
        "providers.careful",
        "the same with details",
        "2026.1.5",
        takes="state message exit_code stdout_path stderr_path",
    ),
    Use("parsl.jobs.states:TERMINAL_STATES", "failures", "whether a job has ended", "2026.1.5"),
    Use("parsl.jobs.errors:TooManyJobFailuresError", "failures", "raised where there is no hope", "2026.1.5"),
    Use(
        "parsl.executors.errors:ScalingFailed.__init__",
        "scaling",
        "raised for a job that isn't taken",
        "2026.1.5",
        takes="executor reason",
    ),
    Use(
        "parsl.executors.high_throughput.errors:ManagerLost",
        "lost_workers",
        "explained by what became of its job",
        "2026.1.5",
    ),
)
