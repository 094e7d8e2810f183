"""Sign a delegation by ssh-keygen, on the user's own computer: with a key file, an agent or a certificate."""

import os
import subprocess
import tempfile
from pathlib import Path

from twinlock_signed.delegation import NAMESPACE
from twinlock_signed.errors import Refused
from twinlock_signed.ssh import keygen

LIMIT = 120.0
"""Seconds for the person to type a passphrase or to touch a FIDO key."""


def sign(statement: bytes, key: Path) -> str:
    """Return a signature of a delegation.

    Args:
        statement: the delegation.
        key: a private key; or a public key or certificate, whose private key is in the agent, or beside it without
            ``.pub`` or ``-cert.pub``. ssh-keygen asks for a passphrase where it needs one.

    Raises:
        Refused: the key doesn't sign.
    """
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", os.fspath(key.expanduser().absolute())]
    try:
        done = subprocess.run(command, input=statement, capture_output=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        raise Refused(f"{key}: nothing was signed within {LIMIT:.0f} s; touch the key or type the passphrase") from None
    except OSError as error:
        raise Refused(f"ssh-keygen can't be run ({error.strerror}); install OpenSSH 8.9 or later") from error
    if done.returncode != 0:
        raise Refused(f"{key}: ssh-keygen can't sign with it ({keygen.words(done.stderr)}); choose another key")
    return done.stdout.decode("ascii")


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
