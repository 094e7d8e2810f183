"""RabbitMQ's own commands on a private node, as the node's administrator."""

import json
import os
import subprocess
from pathlib import Path

CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"


def evaluate(state: Path, expression: str) -> str:
    """What an Erlang expression gives on the node in that state folder; minutes at most."""
    ports = json.loads((state / "rabbitmq" / "ports.json").read_text())
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(state / "rabbitmq" / "node"),
        "RABBITMQ_NODENAME": f"twinlock-{ports['amqp']}@localhost",
        "ERL_EPMD_PORT": str(ports["epmd"]),
    }
    drop = ["setpriv", "--reuid=rabbitmq", "--regid=rabbitmq", "--init-groups"] if os.geteuid() == 0 else []
    argv = [*drop, CONTROL, "--timeout", "600", "eval", f"{expression}."]
    return subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=True).stdout


def restart(state: Path) -> None:
    """Stop RabbitMQ and start it again in its process: connections and all that isn't on disk are gone.

    Its event manager doesn't end when it is asked to; RabbitMQ would wait five seconds for it.
    """
    impatient = "spawn(fun() -> timer:sleep(500), catch exit(whereis(rabbit_event), kill) end)"
    evaluate(state, f"begin {impatient}, rabbit:stop(), rabbit:start() end")
