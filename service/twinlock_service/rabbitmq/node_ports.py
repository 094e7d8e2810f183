"""The TCP ports of the private RabbitMQ node: chosen once and kept, so that clients find it again after a restart."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from twinlock_service.errors import StartError
from twinlock_service.state.private_files import replacing_private

PORTS = range(20000, 32000)
"""Below Linux's ephemeral ports: a client that calls a closed one of those can get connected to itself, and hold it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The node's TCP ports, all on 127.0.0.1."""

    amqp: int
    """For AMQP without TLS."""
    management: int
    """For the management API, over HTTP."""
    distribution: int
    """For Erlang's own connections to the node."""
    epmd: int
    """For Erlang's port mapper, which names the node's port."""


def kept_ports(folder: Path, claims: contextlib.AsyncExitStack) -> Ports:
    """Return the node's ports from `folder`, where they are noted at the first start.

    No other service takes the ports until `claims` ends. Raise `StartError` if another program uses one of them, or if
    the note is damaged.
    """
    file = folder / "ports.json"
    if not file.exists():
        chosen = Ports(*free_ports(4, claims))
        with replacing_private(file) as new:
            json.dump(asdict(chosen), new)
        return chosen
    ports = _read(file)
    for port in asdict(ports).values():
        if not (_is_free(port) and _claim(port, claims)):
            text = f"port {port} of the private RabbitMQ node is in use by another program"
            raise StartError(os.EX_UNAVAILABLE, f"{text}; end that, or remove {file} to have other ports chosen")
    return ports


def _read(file: Path) -> Ports:
    try:
        return Ports(**json.loads(file.read_text()))
    except (ValueError, TypeError):
        # Not made anew without being asked: the node's data belong to its name, which has the AMQP port in it.
        text = f"{file}, which has the ports of the private RabbitMQ node, is damaged; restore it, or remove it"
        loss = "to have other ports chosen, which loses what waits in RabbitMQ"
        raise StartError(os.EX_DATAERR, f"{text} {loss}") from None


def free_ports(count: int, claims: contextlib.AsyncExitStack) -> list[int]:
    """Return ports that nobody listens on, and claim them until `claims` ends.

    Else another service might take one before the node listens on it, which takes a while. Raise `StartError` if there
    are fewer than `count`.
    """
    candidates = random.sample(PORTS, k=len(PORTS))
    free = (port for port in candidates if _is_free(port) and _claim(port, claims))
    found = list(itertools.islice(free, count))
    if len(found) < count:
        text = f"the private RabbitMQ node needs {count} TCP ports from {min(PORTS)} to {max(PORTS)}"
        raise StartError(os.EX_UNAVAILABLE, f"{text}, and {len(found)} are free; end programs that use them")
    return found


def _claim(port: int, claims: contextlib.AsyncExitStack) -> bool:
    """Claim a port for this service's node until `claims` ends. Return whether no other service has claimed it.

    The claim is a name in the abstract namespace (unix(7)). Such names belong to the same network namespace as the
    ports, and are free again when the process that has them ends.
    """
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0twinlock-service rabbitmq {port}")
    except OSError:
        claim.close()
        return False
    claims.enter_context(claim)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
