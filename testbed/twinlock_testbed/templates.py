"""The administrators' templates of the demonstration and the tests."""

SLURM = """\
engine:
  type: GlobusComputeEngine
  provider:
    type: SlurmProvider
    account: {{ account_id }}
    launcher: {type: SrunLauncher}
    walltime: {{ walltime|default("00:30:00") }}
"""

LOCAL = """\
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  working_dir: {{ account_id }}
  provider:
    type: LocalProvider
    init_blocks: 1
    max_blocks: 1
"""

IDLE = """\
heartbeat_period: 5
idle_heartbeats_soft: 4
"""
"""Twenty seconds without work end the endpoint; without these lines it would stay for ever, as the agent's does.

That long, since on a busy machine one may be idle already while the others still start.
"""
