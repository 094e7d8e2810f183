"""Side by side with the official agent: the same template and the same options make the same configuration."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

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
# No character beyond the first plane: the peer makes two halves of it, which YAML reads as two characters.
# No character beyond the first plane: the peer makes two halves of it, which YAML reads as two characters.
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


def rendered(argv: tuple[Path, str], folder: Path, template: str, options: dict[str, Any]) -> Any:
    """The configuration that a command's output is."""
    for name, text in (("t.j2", template), ("o.json", json.dumps(options))):
        (folder / name).write_text(text)
    words = ("-t", str(folder / "t.j2"), "-o", str(folder / "o.json"))
    environment = os.environ | {"HOME": str(folder)}
    done = subprocess.run(
        [*argv, *words], env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


@pytest.mark.parametrize(
    ("template", "options"),
    [
        (SLURM, {"queue": "long", "workers": 8, "account": "phys-1", "options": "#SBATCH --mem=1G\n#SBATCH -n 2"}),
        (SLURM, {"queue": "long", "init": 'module load x; echo "it\'s" $HOME'}),
        (LOOPS, {"modules": ["gcc/12", "cuda 11", "a:b"], "limits": {"memory": 16}, "kind": "ProcessPoolEngine"}),
        (LOOPS, {"modules": NASTY}),
    ],
)
def test_a_rendering_is_the_peers(tmp_path: Path, template: str, options: dict[str, Any]) -> None:
    if not AGENT.exists():
        pytest.skip("needs the official agent in an environment of its own; make test installs it")
    peer = rendered((AGENT, "render-user-config"), tmp_path, template, options)
    assert rendered((OURS, "render"), tmp_path, template, options) == peer
