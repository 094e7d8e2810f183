"""Engines as the templates of well-known sites describe them: the same keys and kinds of value, with our own values.

The shapes are those of the configurations that the peer's documentation has for these machines. Only the network
interface is another one: it has to exist where the engine is made.
"""

from pathlib import Path

import pytest
import yaml
from kubernetes.config import kube_config
from twinlock_endpoint import engines
from twinlock_endpoint.engines.globus_compute import GlobusComputeEngine

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


@pytest.mark.parametrize("site", SITES)
def test_the_engine_can_be_made(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubeconfig").write_text(CLUSTER)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    made = engines.build(yaml.safe_load(SITES[site]))
    assert isinstance(made, GlobusComputeEngine)
    assert made.max_workers >= 1
