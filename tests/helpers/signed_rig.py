"""People's SSH keys and what they sign, made by the real ssh-keygen and ssh-agent."""

import base64
import hashlib
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from twinlock_signed import delegation
from twinlock_signed.delegation import NAMESPACE, Delegation, Host
from twinlock_signed.dsse import public_half

SITE = "cluster.example.org"
MANAGER = "11111111-2222-4333-8444-555555555555"
HOST = Host(account="ada", site=SITE, manager=MANAGER, longest=86400)
HOUR = 3600


def keygen(*arguments: str | Path, given: bytes = b"") -> bytes:
    """What ssh-keygen prints."""
    command = ["ssh-keygen", *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, check=True, timeout=60)
    return done.stdout


def make_key(path: Path, *kind: str) -> Path:
    """A new private key at `path`, Ed25519 if no `kind` is given, with its public half beside it."""
    keygen("-q", "-N", "", "-C", f"{path.name} of a test", "-f", path, *(kind or ("-t", "ed25519")))
    return path


def public(key: Path) -> str:
    """The public half of a private key: one line, without its end."""
    return Path(f"{key}.pub").read_text().strip()


def certify(ca: Path, key: Path, *options: str, principals: str = "ada") -> Path:
    """A certificate of a key, valid for an hour unless options say otherwise, by the certification authority `ca`."""
    named = ("-n", principals) if principals else ()
    valid = () if "-V" in options else ("-V", "-1h:+1h")
    keygen("-q", "-s", ca, "-I", "a certificate", *named, *valid, *options, f"{key}.pub")
    return Path(f"{key}-cert.pub")


def sign(key: Path, statement: bytes, namespace: str = NAMESPACE) -> bytes:
    """A signature as anybody can make it, in any namespace."""
    return keygen("-q", "-Y", "sign", "-n", namespace, "-f", key, given=statement)


def delegated(session: SigningKey | None = None, **fields: Any) -> Delegation:
    """A delegation that `HOST` accepts now, with other `fields` where they are given."""
    now = int(time.time())
    whole = Delegation(
        id="0123456789abcdef" * 2,
        account=HOST.user,
        manager=MANAGER,
        session_key=public_half(session or SigningKey.generate()),
        user_endpoint_config={"worker_init": "module load conda", "nodes": 2},
        user_runtime={"python": {"version": "3.12.1"}},
        issued=now,
        expires=now + HOUR,
    )
    return replace(whole, **fields)


def statement(**fields: Any) -> bytes:
    """The statement of such a delegation."""
    return delegation.write(delegated(**fields))


@contextmanager
def agent(folder: Path) -> Iterator[str]:
    """An ssh-agent without keys; the path of its socket."""
    path = folder / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert b"SSH_AUTH_SOCK" in process.stdout.readline()  # printed when it listens
        yield str(path)
    finally:
        process.kill()
        process.communicate()


def add_to_agent(socket: str, key: Path) -> None:
    """Give the key, with the certificate beside it, to the agent."""
    command = ["ssh-add", "-q", str(key)]
    subprocess.run(
        command, check=True, timeout=60, capture_output=True, env={"SSH_AUTH_SOCK": socket, "PATH": "/usr/bin"}
    )


def _text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


class Fido:
    """A FIDO key in software (PROTOCOL.u2f of OpenSSH): its public key, and signatures as ssh-keygen makes them."""

    def __init__(self) -> None:
        self._key = SigningKey.generate()
        kind = b"sk-ssh-ed25519@openssh.com"
        self._blob = _text(kind) + _text(bytes(self._key.verify_key)) + _text(b"ssh:")
        self.public = f"{kind.decode()} {base64.b64encode(self._blob).decode()}"

    def sign(self, statement: bytes) -> bytes:
        """A signature, made with a touch."""
        names = _text(NAMESPACE.encode()) + _text(b"") + _text(b"sha512")
        message = b"SSHSIG" + names + _text(hashlib.sha512(statement).digest())
        flags_and_counter = b"\x01" + struct.pack(">I", 7)
        signed = hashlib.sha256(b"ssh:").digest() + flags_and_counter + hashlib.sha256(message).digest()
        signature = _text(b"sk-ssh-ed25519@openssh.com") + _text(self._key.sign(signed).signature) + flags_and_counter
        blob = b"SSHSIG" + struct.pack(">I", 1) + _text(self._blob) + names + _text(signature)
        return b"-----BEGIN SSH SIGNATURE-----\n%s-----END SSH SIGNATURE-----\n" % base64.encodebytes(blob)
