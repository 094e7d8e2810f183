"""Side by side with the official agent: the same template and the same options make the same configuration."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from broker_rig import MANAGER, NO_POLICY
from twinlock_broker.config.keys import MANAGER_KEYS, read_keys

pytestmark = pytest.mark.peer

AGENT = Path(os.environ.get("TWINLOCK_PREFIX", sys.prefix), "peer/bin/globus-compute-endpoint")
OURS = Path(sys.executable).with_name("twinlock")
SLURM = """\
engine:
  type: GlobusComputeEngine
  max_workers_per_node: {{ workers|default(2) }}
  provider:
    type: SlurmProvider
    partition: {{ queue }}
    account: {{ account|default("none") }}
    scheduler_options: {{ options|default("") }}
    worker_init: {{ init|default("true") }}
"""
LOOPS = """\
engine:
  type: {{ kind|default("ThreadPoolEngine") }}
{% for module in modules|default([]) %}
module_{{ loop.index }}: {{ module }}
{% endfor %}
who: {{ _GC.mapped_identity.local.uname }}-{{ mapped_identity.local.uid }}
id: {{ _GC.mapped_identity.globus.id }}
{% if limits is defined %}
memory: {{ limits.memory }}
{% endif %}
"""
# No character beyond the first plane: the agent makes two halves of it, which YAML reads as two characters.
NASTY = [
    '"',
    "'",
    "a: b\nc: d",
    "{{ x }}",
    "#",
    "\u2028",
    "\u0085",
    "- 1",
    "&a *a",
    "!!python/none",
    "\t",
    "",
]


@pytest.fixture(autouse=True)
def agent() -> None:
    """There has to be one."""
    if not AGENT.exists():
        pytest.skip("needs the official agent in an environment of its own; make test installs it")


def said(folder: Path, *argv: str | Path) -> str:
    """What a command prints whose home is `folder`."""
    environment = os.environ | {"HOME": str(folder)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


CLICK = """
import json, sys
lines, sys.argv = json.loads(sys.argv[1]), ["bin/globus-compute-endpoint"]
from click.testing import CliRunner
from globus_compute_endpoint.cli import app
print(json.dumps([CliRunner().invoke(app, ["render-user-config", *words]).stdout for words in lines]))
"""
"""Many renderings by one process of the agent's command, which takes seconds to start."""


def compare(folder: Path, *words: list[str]) -> None:
    """Both commands make the same configuration of each of these command lines."""
    peers = json.loads(said(folder, AGENT.with_name("python"), "-c", CLICK, json.dumps(words)))
    for one, peer in zip(words, peers, strict=True):
        wanted = yaml.safe_load(peer)
        assert "engine" in wanted, peer
        assert yaml.safe_load(said(folder, OURS, "render", *one)) == wanted, one


CASES: list[tuple[str, dict[str, Any]]] = [
    (SLURM, {"queue": "long", "workers": 8, "account": "phys-1", "options": "#SBATCH --mem=1G\n#SBATCH -n 2"}),
    (SLURM, {"queue": "long", "init": 'module load x; echo "it\'s" $HOME'}),
    (LOOPS, {"modules": ["gcc/12", "cuda 11", "a:b"], "limits": {"memory": 16}, "kind": "ProcessPoolEngine"}),
    (LOOPS, {"modules": NASTY}),
]


def test_a_rendering_is_the_peers(tmp_path: Path) -> None:
    for number, (template, options) in enumerate(CASES):
        (tmp_path / f"{number}.j2").write_text(template)
        (tmp_path / f"{number}.json").write_text(json.dumps(options))
    compare(tmp_path, *(["-t", f"{number}.j2", "-o", f"{number}.json"] for number in range(len(CASES))))


RUNTIME = {"globus_compute_sdk_version": "4.19.0", "python": {"version": "3.11.2", "version_tuple": [3, 11, 2]}}
WISHES = {"requirements": "numpy==2.1\nscipy", "worker_init": "module load x", "endpoint_setup": 'echo "it\'s"'}


@pytest.mark.thorough
def test_a_folder_that_the_peer_configures_is_served_as_it_is(tmp_path: Path) -> None:
    said(tmp_path, AGENT, "configure", "cluster", "--multi-user", "true", "--contact-email", "a@b.example")
    checked = said(tmp_path, OURS, "check", *NO_POLICY, tmp_path / ".globus_compute" / "cluster")
    assert "example_identity_mapping_config.json" in checked, checked
    assert "FAIL" not in checked
    for name, value in (("none", {}), ("all", WISHES), ("runtime", RUNTIME)):
        (tmp_path / name).write_text(json.dumps(value))
    compare(tmp_path, *(["-e", "cluster", "-o", name, "--user-runtime", "runtime"] for name in ("none", "all")))


CONFIGS: list[dict[str, Any]] = [
    {},
    {"display_name": "None", "heartbeat_period": 1, "public": "yes", "debug": 1, "amqp_port": "443"},
    {"heartbeat_period": "60", "mu_child_ep_grace_period_s": "7.5", "high_assurance": "off", "email": "a@b.example"},
    {"admins": [MANAGER.upper()], "allowed_functions": [MANAGER], "authentication_policy": MANAGER},
    {"subscription_id": MANAGER.replace("-", ""), "environment": "dev", "local_compute_services": "true"},
]
ASK = """
import inspect, json, sys
from globus_compute_endpoint.endpoint.config import config, utils
keys = {*inspect.signature(config.CoreEndpointConfig).parameters, *inspect.signature(config.BaseConfig).parameters}
keys -= {"kwargs"}
made = [utils.load_config_yaml(text) for text in json.loads(sys.argv[1])]
print(json.dumps([sorted(keys), [{key: getattr(one, key) for key in keys - {"pam"}} for one in made]]))
"""


def test_each_key_has_the_peers_name_default_and_reading(tmp_path: Path) -> None:
    texts = json.dumps([yaml.safe_dump(config) for config in CONFIGS])
    keys, peers = json.loads(said(tmp_path, AGENT.with_name("python"), "-c", ASK, texts))
    assert {key.name for key in MANAGER_KEYS} == set(keys)
    for config, peer in zip(CONFIGS, peers, strict=True):
        ours = json.loads(json.dumps(read_keys(MANAGER_KEYS, config, "here")))
        assert {key: value for key, value in ours.items() if key != "pam"} == peer, config
