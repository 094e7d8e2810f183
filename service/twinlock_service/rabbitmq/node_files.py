"""The private RabbitMQ node's folder and configuration.

STATE/rabbitmq holds what the service writes, STATE/rabbitmq/node what the node writes: root writes nothing where
another user could have put a link.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
from pathlib import Path

from twinlock_service.errors import StartError
from twinlock_service.rabbitmq.node_ports import Ports
from twinlock_service.state.private_files import replacing_private

VHOST = "twinlock"
ADMIN = "twinlock-admin"

MAX_MESSAGE = 48 * 1024 * 1024
"""Bytes of a message: a task's function and arguments, or a result, whose limits are smaller."""


def prepare_folder(folder: Path, account: pwd.struct_passwd) -> None:
    """Make the folder, with one for the node's `account` in it. Raise `StartError` if that account can't get there."""
    for each in (folder, folder / "node"):
        each.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        # The node's user has to get through to its own folder; the files beside it are closed one by one.
        for above in (folder.parent, folder):
            above.chmod(0o711)
        os.chown(folder / "node", account.pw_uid, account.pw_gid)
        for above in folder.parents:
            if not above.stat().st_mode & 0o001:
                text = f"the user `rabbitmq` can't enter {above}; choose a --state that it can reach"
                raise StartError(os.EX_CANTCREAT, text)


def administrator_password(folder: Path) -> str:
    """Return the password of this node's administrator, or a new one if none is noted.

    The node takes whatever `definitions.json` has when it starts, so a damaged one may be made anew.
    """
    with contextlib.suppress(FileNotFoundError, ValueError):
        return str(json.loads((folder / "definitions.json").read_text())["users"][0]["password"])
    return secrets.token_urlsafe(24)


def write_config(folder: Path, ports: Ports, password: str, account: pwd.struct_passwd) -> None:
    """Write all that the node reads when it starts."""
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "users": [{"name": ADMIN, "password": password, "tags": "administrator"}],
        "vhosts": [{"name": VHOST}],
        "permissions": [{"user": ADMIN, "vhost": VHOST, **everything}],
    }
    config = {
        "listeners.tcp.1": f"127.0.0.1:{ports.amqp}",
        "management.tcp.ip": "127.0.0.1",
        "management.tcp.port": ports.management,
        "max_message_size": MAX_MESSAGE,
        "load_definitions": folder / "definitions.json",
        "distribution.listener.interface": "127.0.0.1",
        # At this much memory RabbitMQ stops everybody who publishes; some tasks of 10 MiB at once take 600 MB.
        "vm_memory_high_watermark.relative": "0.4",
        "disk_free_limit.absolute": "200MB",
    }
    texts = {
        "definitions.json": json.dumps(definitions),
        "rabbitmq.conf": "".join(f"{key} = {value}\n" for key, value in config.items()),
        "enabled_plugins": "[rabbitmq_management].\n",
    }
    for name, text in texts.items():
        with replacing_private(folder / name) as file:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), 0, account.pw_gid)
                os.fchmod(file.fileno(), 0o640)
            file.write(text)


def environment(folder: Path, ports: Ports) -> dict[str, str]:
    """Return the environment variables of the node and its port mapper."""
    node = folder / "node"
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(node),
        "RABBITMQ_BASE": str(node),
        "RABBITMQ_NODENAME": f"twinlock-{ports.amqp}@localhost",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(node / "mnesia"),
        "RABBITMQ_LOG_BASE": str(node / "log"),
        "RABBITMQ_PID_FILE": str(node / "server.pid"),
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # No busy waiting: on a small machine the node shares its cores with what it serves.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        # Makes the start script exec the node, so that the child's pid is the node's and SIGTERM reaches it.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
