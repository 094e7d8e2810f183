"""The SSH key that signs delegations: a file, or one of the keys that the user's agent has."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from twinlock_signed.errors import Refused
from twinlock_signed.ssh.sign import sign as sign_file
from twinlock_signed.ssh.sign import sign_by_agent

from twinlock_client import printable

LIMIT = 20.0
"""Seconds that the agent may take to list its keys."""

Sign = Callable[[bytes], str]
"""Returns the signature of a delegation. Raises `Refused` if there is none."""

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class AgentKey(NamedTuple):
    """A key or a certificate that the agent has."""

    public: str
    """The line that `ssh-add -L` prints for it."""
    fingerprint: str
    """Such as ``SHA256:caaJI+Vm57zY...``; that of a certificate is its key's."""
    words: str
    """How it is described to people: bits, fingerprint, comment and kind."""


def choose(key: str | Path | None) -> Sign:
    """Return what signs with a key.

    Args:
        key: a file (a private key; or a public key or certificate whose private key is in the agent or beside it),
            the fingerprint of a key in the agent, or None for the agent's only key.

    Raises:
        Refused: there is no such key, or the agent has several.
    """
    if key is None or _FINGERPRINT.fullmatch(str(key)):
        chosen = _choose_in_agent(None if key is None else str(key))
        return _explained(lambda statement: sign_by_agent(statement, chosen.public))
    path = Path(os.path.expanduser(key))  # noqa: PTH111 - Path's own raises an error for users that aren't there
    if not path.exists():
        raise Refused(f"key {key}: there is no such file; name your SSH key, such as ~/.ssh/id_ed25519")
    return _explained(lambda statement: sign_file(statement, path))


def in_agent() -> list[AgentKey]:
    """Return the keys that the agent has, in its order. Raise `Refused` if there is no agent."""
    done = _run(["ssh-add", "-L"])
    if done.returncode == 1:  # it has none
        return []
    if done.returncode != 0:
        raise Refused("no key: there is no SSH agent; start one, or give `key`, such as ~/.ssh/id_ed25519")
    return [_described(public) for public in done.stdout.splitlines() if public.strip()]


def _choose_in_agent(fingerprint: str | None) -> AgentKey:
    keys = in_agent()
    fitting = [key for key in keys if fingerprint in (None, key.fingerprint)]
    if len(fitting) == 1:
        return fitting[0]
    listed = "".join(f"\n  {key.words}" for key in keys) or " none"
    if not fitting:
        wanted = f"key {fingerprint}" if fingerprint else "no key"
        raise Refused(f"{wanted}: the SSH agent hasn't got one; use `ssh-add`, or give a file. It has:{listed}")
    raise Refused(
        "no key is chosen: the SSH agent has several that fit; give `key`, the file of one (its .pub or -cert.pub does)"
        f" or its fingerprint if that is another's than the rest's. It has:{listed}"
    )


def _described(public: str) -> AgentKey:
    done = _run(["ssh-keygen", "-l", "-E", "sha256", "-f", "-"], public)
    words = printable.line(done.stdout)
    found = _FINGERPRINT.search(words)
    return AgentKey(public, found[0] if found else "", words or "a key that ssh-keygen can't read")


def _run(command: list[str], given: str = "") -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, input=given, capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"the SSH agent didn't answer within {LIMIT:.0f} s; see why with `ssh-add -L`") from None
    except OSError as error:
        raise Refused(f"{command[0]} can't be run ({error.strerror}); install OpenSSH 8.9 or later") from error


def _explained(sign: Sign) -> Sign:
    """Return what signs so. What ssh-keygen says without a reason, or with a wrong one, gets the likely ones."""

    def explained(statement: bytes) -> str:
        try:
            return sign(statement)
        except Refused as error:
            raise Refused(f"{error}{_likely(str(error))}") from None

    return explained


def _likely(words: str) -> str:
    if "agent refused operation" in words:
        return (
            ". An agent refuses keys that were added for certain destinations (`ssh-add -h`), and those "
            "for which it asks and isn't answered"
        )
    if "Enter passphrase" in words:  # which goes to the terminal if there is one
        return ". There is no terminal to type its passphrase; give the key to an agent (`ssh-add`), or set SSH_ASKPASS"
    return ""
