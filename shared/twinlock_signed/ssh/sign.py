"""Sign a delegation by ssh-keygen, on the user's own computer: with a key file, an agent or a certificate."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from twinlock_signed.delegation import NAMESPACE
from twinlock_signed.errors import Refused
from twinlock_signed.ssh import keygen

LIMIT = 120.0
"""Seconds for the person to type a passphrase or to touch a FIDO key."""

_LAST_WORDS = 1.0
"""Seconds that are waited for the end of ssh-keygen's stderr when it has ended itself."""


def sign(statement: bytes, key: Path) -> str:
    """Return a signature of a delegation. What ssh-keygen says goes to stderr at once: it may ask for a touch.

    Args:
        statement: the delegation.
        key: a private key; or a public key or certificate, whose private key is in the agent, or beside it without
            ``.pub`` or ``-cert.pub``. ssh-keygen asks for a passphrase where it needs one.

    Raises:
        Refused: the key doesn't sign.
    """
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", os.fspath(key.expanduser().absolute())]
    try:
        done = _run(command, statement)
    except subprocess.TimeoutExpired:
        raise Refused(f"{key}: nothing was signed within {LIMIT:.0f} s; touch the key or type the passphrase") from None
    except OSError as error:
        raise Refused(f"ssh-keygen can't be run ({error.strerror}); install OpenSSH 8.9 or later") from error
    if done.returncode != 0:
        raise Refused(f"{key}: ssh-keygen can't sign with it ({keygen.words(done.stderr)}); choose another key")
    return done.stdout.decode("ascii")


def _run(command: list[str], statement: bytes) -> "subprocess.CompletedProcess[bytes]":
    reading, writing = os.pipe()
    said: list[bytes] = []
    passes_on = threading.Thread(target=_pass_on, args=(reading, said), daemon=True)
    passes_on.start()
    try:
        done = subprocess.run(
            command, input=statement, stdout=subprocess.PIPE, stderr=writing, timeout=LIMIT, check=False
        )
    finally:
        os.close(writing)
    passes_on.join(_LAST_WORDS)  # what ssh-keygen has started may hold the pipe still
    done.stderr = b"".join(said)
    return done


def _pass_on(descriptor: int, said: list[bytes]) -> None:
    with os.fdopen(descriptor, "rb") as lines:
        for line in lines:
            said.append(line)
            with contextlib.suppress(Exception):  # a closed stderr is no reason not to sign
                sys.stderr.write(line.decode("utf-8", "replace"))
                sys.stderr.flush()


def sign_by_agent(statement: bytes, public: str) -> str:
    """Return a signature of a delegation by a key that only the agent has.

    Args:
        statement: the delegation.
        public: the public key or certificate, as `ssh-add -L` prints it.

    Raises:
        Refused: the agent doesn't sign with it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "agent-key.pub")
        path.write_text(public.strip() + "\n")
        return sign(statement, path)
