"""The secret by which the console knows the web server on a port, where anybody on the host could connect."""

import os
import stat
from pathlib import Path

from twinlock_common.site_files import read_file

from twinlock_broker.errors import Fatal
from twinlock_broker.secret import Secret

LEAST = 16
"""Characters of a secret; the manual's way of making one gives 64."""

_MOST = 4096


def read_secret(path: Path | None) -> Secret[bytes] | None:
    """Return the secret in the file, None without a file. Raise `Fatal` (66, 77, 78) if it can't be one."""
    if path is None:
        return None
    try:
        mode, text = path.stat().st_mode, read_file(path).strip()
    except OSError as error:
        raise Fatal(os.EX_NOINPUT, f"proxy_secret_file {path}: {error.strerror}") from error
    except ValueError as error:
        raise Fatal(os.EX_CONFIG, f"proxy_secret_file {path}: {error}") from error
    if mode & stat.S_IRWXO:
        raise Fatal(os.EX_NOPERM, f"proxy_secret_file {path}: every account may use it; chmod o= {path}")
    if not LEAST <= len(text) <= _MOST or not text.isascii() or not text.isprintable() or " " in text:
        advice = f"one line of {LEAST} or more printable characters"
        raise Fatal(os.EX_CONFIG, f"proxy_secret_file {path}: it needs {advice}; `openssl rand -hex 32` makes one")
    return Secret(text.encode())
