"""`twinlock-client check`: whether signing works here, and what can be seen of what the site accepts."""

import argparse
import base64
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from twinlock_signed.delegation import NAMESPACE
from twinlock_signed.errors import Refused
from twinlock_signed.ssh.signer_lines import authorized_keys

from twinlock_client import delegations, printable, sdk, ssh_keys, user
from twinlock_client.commands import arguments, remote
from twinlock_client.records import enrolled
from twinlock_client.user import User

_OLDEST_SSH = (8, 9)
_READ_KEYS = "cat .ssh/authorized_keys"
_MINUTE = 60

_SECONDS = 10.0
"""What a program may take that only looks at something."""

_DETAILS = """\
It signs a delegation for a minute, whose session key nobody has, so you may be asked for your passphrase or to touch
your key. With --ssh it also logs in and reads the account's authorized_keys, which many sites accept. Which of your
keys a site accepts otherwise, its administrator sees with `twinlock verified ACCOUNT`.

  twinlock-client check ada@cluster.example.org 11111111-2222-4333-8444-555555555555 --key ~/.ssh/id_ed25519

exit code: 0 if nothing would fail, else 1
"""


class Finding(NamedTuple):
    """What a check has found."""

    is_good: bool
    text: str


def add(commands: arguments.Commands) -> argparse.ArgumentParser:
    """Add the subcommand."""
    made = arguments.command(commands, "check", "say whether signing works, and what the site accepts", _DETAILS)
    arguments.add_user(made)
    arguments.add_endpoint(made)
    arguments.add_key(made)
    arguments.add_ssh(made)
    return made


def run(options: argparse.Namespace) -> int:
    """Print the findings. Raise `Refused` if the arguments can't be understood."""
    account, manager = user.read(options.user), user.read_endpoint(options.endpoint)
    findings = list(_findings(account, manager, options))
    for finding in findings:
        print(f"{'ok  ' if finding.is_good else 'FAIL'} {printable.line(finding.text)}")
    return 0 if all(finding.is_good for finding in findings) else 1


def _findings(account: User, manager: str, options: argparse.Namespace) -> Iterator[Finding]:
    yield _tried(_sdk)
    yield _tried(_openssh)
    fingerprint = ""

    def signed() -> str:
        nonlocal fingerprint
        fingerprint = _sign(account, manager, options.key)
        return f"key: {fingerprint} signs delegations"

    yield _tried(signed)
    if options.ssh and fingerprint:
        yield _tried(lambda: _accepted(account, options.ssh, fingerprint))
    yield _tried(lambda: _enrolled(account, manager))


def _tried(check: Callable[[], str]) -> Finding:
    try:
        return Finding(True, check())
    except Refused as error:
        return Finding(False, str(error))
    except OSError as error:
        place = error.filename or "a file"
        return Finding(False, f"{place}: {error.strerror or error}; correct that, then check again")


def _sdk() -> str:
    try:
        return f"globus-compute-sdk {sdk.check_release()}"
    except ImportError as error:
        raise Refused(str(error)) from None


def _openssh() -> str:
    try:
        done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"OpenSSH: it can't be run ({type(error).__name__}); install version 8.9 or later") from None
    found = re.search(r"OpenSSH_\D*(\d+)\.(\d+)", done.stderr)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_SSH:
        raise Refused(f"OpenSSH: this is {done.stderr.strip()[:60]!r}; install version 8.9 or later")
    return f"OpenSSH {found[1]}.{found[2]}"


def _sign(account: User, manager: str, key: str | None) -> str:
    """Return the fingerprint of the key that has signed."""
    made = delegations.make(account, manager, {}, {}, _MINUTE, ssh_keys.choose(key))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "signature")
        path.write_text(made.signature)
        argv = ["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(path)]
        given = made.statement.encode("ascii")
        done = subprocess.run(argv, input=given, capture_output=True, timeout=_SECONDS, check=False)
    found = re.search(r"SHA256:[A-Za-z0-9+/]{43}", done.stdout.decode("ascii", "replace"))
    if done.returncode != 0 or found is None:
        words = done.stderr.decode("ascii", "replace")[:300]
        raise Refused(f"key: ssh-keygen doesn't verify what it has signed ({words}); try another key")
    return found[0]


def _accepted(account: User, destination: str, fingerprint: str) -> str:
    """Say whether the account's authorized_keys has the key."""
    parsed = authorized_keys(remote.run(destination, _READ_KEYS).encode(), account.account)
    if fingerprint not in map(_fingerprint, parsed.lines):
        skipped = f" (skipped: {'; '.join(parsed.skipped)})" if parsed.skipped else ""
        raise Refused(
            f"site: {fingerprint} is not in ~/.ssh/authorized_keys of {account}{skipped}; add it there, or ask the "
            "site where it takes keys from"
        )
    return f"site: {fingerprint} is in ~/.ssh/authorized_keys, which counts if the site takes keys from there"


def _fingerprint(line: str) -> str:
    """Return the fingerprint of the key at the end of a line of signers."""
    blob = base64.b64decode(line.rsplit(" ", 1)[-1])
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"


def _enrolled(account: User, manager: str) -> str:
    key = enrolled.key(account, manager)
    if key is None:
        return f"results: {account} isn't enrolled, so only JSON is read; see `twinlock-client enroll --help`"
    return f"results: have to be signed by {key}"
