"""Engines as the templates of well-known sites describe them: the same keys and kinds of value, with our own values.

The shapes are those of the configurations that the agent's documentation has for these machines. Only the network
interface is another one: it has to exist where the engine is made.
"""

import json
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import kube_config
from twinlock_endpoint import engines
from twinlock_endpoint.config import configuration
from twinlock_endpoint.engines.globus_compute import GlobusComputeEngine
from twinlock_endpoint.errors import ConfigError

SLURM = """
type: GlobusComputeEngine
{engine}
address: {{type: address_by_interface, ifname: lo}}
provider:
  type: SlurmProvider
  launcher: {{type: SrunLauncher{launcher}}}
  account: abc123
  partition: debug
  scheduler_options: "#SBATCH --constraint=gpu"
  worker_init: "module load conda; source activate env"
  walltime: 00:30:00
  nodes_per_block: 2
  init_blocks: 0
  min_blocks: 0
  max_blocks: 1
  {provider}
"""
SITES = {
    "Anvil, Delta, Stampede3": SLURM.format(engine="max_workers_per_node: 2", launcher="", provider=""),
    "Bebop, Bridges-2": SLURM.format(engine="worker_debug: False", launcher="", provider=""),
    "Frontera": SLURM.format(engine="max_workers_per_node: 2", launcher="", provider="cmd_timeout: 60"),
    "Perlmutter": SLURM.format(engine="label: hsn", launcher=", overrides: -c 128", provider="cmd_timeout: 120"),
    "Expanse": SLURM.format(engine="cores_per_worker: 0.5", launcher="", provider="mem_per_node: 16"),
    "FASTER": SLURM.format(
        engine="strategy: {type: SimpleStrategy, max_idletime: 90}", launcher="", provider="mem_per_node: 128"
    ),
    "Midway, with a container": SLURM.format(
        engine="container_type: apptainer\ncontainer_uri: /images/a.sif\ncontainer_cmd_options: -H /home/$USER",
        launcher="",
        provider="",
    ),
    "a cluster of GPUs": SLURM.format(
        engine="available_accelerators: 4",
        launcher=', overrides: "hostname; srun --ntasks=2 --gpus-per-task=1"',
        provider="exclusive: false",
    ),
    "Expanse, MPI": """
type: GlobusMPIEngine
mpi_launcher: srun
address: {type: address_by_interface, ifname: lo}
provider:
  type: SlurmProvider
  partition: compute
  account: abc123
  launcher: {type: SimpleLauncher}
  nodes_per_block: 4
  max_blocks: 1
  walltime: 00:05:00
""",
    "Polaris": """
type: GlobusComputeEngine
max_workers_per_node: 4
available_accelerators: 4
address: {type: address_by_interface, ifname: lo}
provider:
  type: PBSProProvider
  launcher: {type: MpiExecLauncher, bind_cmd: --cpu-bind, overrides: --depth=64 --ppn 1}
  account: abc123
  queue: debug-scaling
  cpus_per_node: 32
  select_options: ngpus=4
  scheduler_options: "#PBS -l filesystems=home"
  walltime: 01:00:00
  max_blocks: 2
""",
    "a cluster with LSF": """
type: GlobusComputeEngine
address: {type: address_by_interface, ifname: lo}
provider:
  type: LSFProvider
  launcher: {type: SingleNodeLauncher}
  queue: standard
  walltime: 00:30:00
  cores_per_node: 12
  cmd_timeout: 60
  scheduler_options: "#BSUB -R span[hosts=1]"
  worker_init: |
    module load conda
    conda activate env
""",
    "OSPool": """
type: GlobusComputeEngine
max_workers_per_node: 1
worker_logdir_root: /tmp/logs
working_dir: /tmp/tasks
encrypted: False
provider:
  type: CondorProvider
  init_blocks: 1
  max_blocks: 1
  scheduler_options: >
    +ProjectName = "abc"

    Requirements = HAS_SINGULARITY == True
""",
    "Kubernetes": """
type: GlobusComputeEngine
label: kube
max_workers_per_node: 1
encrypted: false
address: 127.0.0.1
provider:
  type: KubernetesProvider
  init_blocks: 0
  max_blocks: 2
  init_cpu: 1
  max_cpu: 4
  init_mem: 1024Mi
  max_mem: 4096Mi
  namespace: default
  pod_name: globus-compute-pod
  image: python:3.12-bookworm
  secret: pull
  worker_init: pip install globus-compute-endpoint
""",
}


CLUSTER = """
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: here, context: {cluster: here, user: me}}]
users: [{name: me, user: {}}]
"""
"""What the Kubernetes provider reads when it is made; nobody is asked yet."""


@pytest.fixture
def _cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubeconfig").write_text(CLUSTER)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))


@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize("site", SITES)
def test_the_engine_can_be_made(site: str) -> None:
    made = engines.build(yaml.safe_load(SITES[site]))
    assert isinstance(made, GlobusComputeEngine)
    assert made.max_workers >= 1


@pytest.mark.usefixtures("_cluster")
def test_volumes_of_pods_are_pairs_which_yaml_has_none_of() -> None:
    made: Any = engines.build(yaml.safe_load(f"{SITES['Kubernetes']}  persistent_volumes: [[data, /data]]\n"))
    # It looks at the Parsl executor that the engine has made.
    assert made._executor.provider.persistent_volumes == [("data", "/data")]  # noqa: SLF001


@pytest.mark.usefixtures("_cluster")
def test_pods_have_an_image_and_no_container_besides() -> None:
    with pytest.raises(ConfigError, match="KubernetesProvider, which has an image of its own"):
        engines.build(yaml.safe_load(f"{SITES['Kubernetes']}\ncontainer_type: docker\ncontainer_uri: other\n"))


ENGINE = "engine: {type: ThreadPoolEngine}\n"
GCE = "engine: {{type: GlobusComputeEngine, {}}}"
TAKEN = [
    *(f"engine:{textwrap.indent(text, '  ')}" for site, text in SITES.items() if site != "Kubernetes"),
    ENGINE + "heartbeat_period: '30'\nheartbeat_threshold: 100\nidle_heartbeats_soft: '10'\ndebug: 'true'",
    ENGINE + "idle_heartbeats_soft: 1.0\nidle_heartbeats_hard: -1\namqp_port: '443'\ndisplay_name: 'None'",
    ENGINE + "subscription_id: 00000000-0000-0000-0000-000000000001\nadmins: []\nlocal_compute_services: true",
    ENGINE + "environment: dev\nauthentication_policy: 00000000-0000-0000-0000-000000000001",
    ENGINE + "paths: {endpoint_dir: /a, endpoint_log: null}\nendpoint_setup:\nendpoint_teardown: ''",
    "engine: {type: ProcessPoolEngine, label: a, max_workers: 2}",
    *(
        GCE.format(arguments)
        for arguments in (
            "cores_per_worker: 1, mem_per_worker: 2, cpu_affinity: block-reverse, available_accelerators: 4",
            "available_accelerators: [a, b], cpu_affinity: 'list:0,1:2,3', worker_debug: true",
            "heartbeat_period: 15, heartbeat_threshold: 60, drain_period: 5, poll_period: 5, prefetch_capacity: 2",
            "launch_cmd: 'process_worker_pool.py {debug}', address_probe_timeout: 5, loopback_address: 127.0.0.1",
            "block_error_handler: false, storage_access: [], worker_logdir_root: /tmp, worker_port: 50000",
            "job_status_kwargs: {strategy: null}, strategy: htex_auto_scale, label: 'a b'",
            "address: {type: get_any_address}, run_in_sandbox: true, working_dir: /tmp, encrypted: false",
            "address: {type: address_by_hostname}, max_retries_on_system_failure: 2",
            "container_type: podman-hpc, container_uri: a, container_cmd_options: -v /a",
            "allowed_serializers: [globus_compute_sdk.serialize.DillCode, globus_compute_sdk.serialize.JSONData]",
            "provider: {type: LocalProvider, launcher: {type: WrappedLauncher, prepend: time}, max_blocks: null}",
            "provider: {type: SlurmProvider, regex_job_id: '(?P<id>1)', clusters: a, gpus_per_node: 2, gres: 'gpu:1'}",
            "provider: {type: SlurmProvider, qos: a, constraint: b, cores_per_node: 2, status_batch_size: 3}",
            "provider: {type: LSFProvider, cores_per_block: 2, cores_per_node: 2, request_by_nodes: false}",
            "provider: {type: CondorProvider, environment: {A: b}, transfer_input_files: [a], cmd_chunk_size: 9}",
            "provider: {type: GridEngineProvider, queue: a, launcher: {type: GnuParallelLauncher}}",
            "provider: {type: TorqueProvider, launcher: {type: AprunLauncher, overrides: -d 64}}",
            "provider: {type: PBSProProvider, walltime: 1:00:00, nodes_per_block: '2', select_options: 5}",
            "provider: {type: TorqueProvider, walltime: 90:00}",
            "provider: {type: GridEngineProvider, walltime: 3600}",
            "provider: {type: PBSProProvider, launcher: {type: MpiRunLauncher, bash_location: /bin/bash}}",
        )
    ),
]


@pytest.mark.peer
def test_what_the_peer_takes_is_taken(peer: Path) -> None:
    program = Path(__file__).parents[1] / "helpers" / "peer_loads.py"
    ended = subprocess.run(
        [peer / "python", program], input=json.dumps(TAKEN), capture_output=True, text=True, check=True
    )
    assert dict(zip(TAKEN, json.loads(ended.stdout), strict=True)) == dict.fromkeys(TAKEN, "")
    for text in TAKEN:
        engines.build(configuration.load(text).engine)
