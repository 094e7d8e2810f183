"""A private RabbitMQ node's own commands and its management API, as the node's administrator."""

import base64
import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"

ANSWER = 300.0
"""Seconds for the management API to answer."""


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


def cut_all(management_url: str) -> None:
    """Close all connections, as a firewall does. The URL has the administrator's login."""
    for connection in json.loads(_call(management_url, "GET", "connections")):
        try:
            _call(management_url, "DELETE", f"connections/{urllib.parse.quote(connection['name'])}")
        except urllib.error.HTTPError as error:
            if error.code != 404:  # it has ended by itself
                raise


def cut_user(management_url: str, user: str) -> None:
    """Close the connections of one user, also those that the list hasn't yet."""
    _call(management_url, "DELETE", f"connections/username/{user}")


def _call(management_url: str, method: str, path: str) -> bytes:
    url = urllib.parse.urlsplit(management_url)
    request = urllib.request.Request(f"http://{url.hostname}:{url.port}/api/{path}", method=method)
    login = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    request.add_header("Authorization", f"Basic {login}")
    with urllib.request.urlopen(request, timeout=ANSWER) as answer:
        return bytes(answer.read())
