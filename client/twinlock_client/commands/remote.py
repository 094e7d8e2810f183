"""Commands in the user's account at the site, by the user's ssh, which verifies the host and asks what it has to."""

import subprocess

from twinlock_signed.errors import Refused

from twinlock_client import printable

LIMIT = 180.0
"""Seconds, in which a person may have to type a password and a second factor."""

_MOST_WORDS = 300


def run(destination: str, command: str, given: str = "") -> str:
    """Run a command there, and return what it prints.

    Args:
        destination: as ssh takes it: a host, ``account@host``, or a name of ~/.ssh/config.
        command: a fixed line for the shell; nothing of it may come from elsewhere.
        given: what it reads from its standard input.

    Raises:
        Refused: ssh can't log in, or the command fails.
    """
    if destination.startswith("-"):
        raise Refused(f"ssh {destination[:100]!r}: it is no destination; give a host or account@host")
    argv = ["ssh", "-T", "-a", "-x", "-o", "ClearAllForwardings=yes", "--", destination, command]
    try:
        done = subprocess.run(argv, input=given.encode(), capture_output=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        raise Refused(f"ssh {destination}: no answer within {LIMIT:.0f} s; see why with `ssh {destination}`") from None
    except OSError as error:
        raise Refused(f"ssh can't be run ({error.strerror}); install OpenSSH") from error
    if done.returncode != 0:
        words = printable.line(done.stderr.decode("utf-8", "replace"))[-_MOST_WORDS:] or f"exit code {done.returncode}"
        raise Refused(f"ssh {destination}: {words}; see why with `ssh {destination}`")
    return done.stdout.decode("utf-8", "replace")
