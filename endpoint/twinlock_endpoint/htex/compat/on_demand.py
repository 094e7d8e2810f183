"""The uses of Parsl that only some endpoints and tasks need: providers, and the time limit of a task."""

from twinlock_endpoint.htex.compat.use import Use

USES = (
    Use("parsl.app.python:timeout", "node.time_limit", "GC_TASK_TIMEOUT", "2026.1.5", takes="f seconds"),
    Use(
        "parsl.providers.cluster_provider:execute_wait",
        "providers.scheduler",
        "replaced: a command is ended at its time limit",
        "2026.1.5",
    ),
    Use(
        "parsl.providers.cluster_provider:ClusterProvider._write_submit_script",
        "providers.named",
        "extended: the job's name is known before it is submitted",
        "2026.1.5",
        takes="template script_filename job_name configs",
    ),
    Use(
        "parsl.providers.cluster_provider:ClusterProvider._write_submit_script",
        "providers.marked",
        "extended: a job's script gets a comment",
        "2026.1.5",
        takes="template script_filename job_name configs",
    ),
    Use(
        "parsl.providers.base:ExecutionProvider.submit",
        "providers.marked",
        "extended: a job's name begins with where it comes from",
        "2026.1.5",
        takes="command tasks_per_node job_name",
    ),
    Use(
        "parsl.providers.cluster_provider:ClusterProvider.execute_wait",
        "providers.only_id",
        "runs a scheduler's command",
        "2026.1.5",
        takes="cmd timeout",
    ),
    Use(
        "parsl.providers.local.local:LocalProvider._write_submit_script",
        "providers.local",
        "writes a block's script",
        "2026.1.5",
        takes="script_string script_filename",
    ),
    Use(
        "parsl.providers.slurm.slurm:SlurmProvider.__init__",
        "providers.slurm",
        "its command for states",
        "2026.1.5",
        names="_cmd _translate_table",
    ),
    Use("parsl.providers.lsf.lsf:translate_table", "providers.lsf", "LSF's states", "2026.1.5"),
    Use("parsl.providers.torque.torque:translate_table", "providers.pbs", "the states of PBS", "2026.1.5"),
    Use(
        "parsl.providers.errors:SubmitException.__init__",
        "providers.local",
        "raised for a block that can't be started",
        "2026.1.5",
        takes="job_name message stdout stderr",
    ),
)
