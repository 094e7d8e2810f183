"""The administrator's shell commands before and after the endpoint's life."""

import logging
import os
import signal
import subprocess
import tempfile
from contextlib import suppress

from twinlock_endpoint.errors import ConfigError

log = logging.getLogger(__name__)

LIMIT_S = 300.0
_SHOWN = 500


def run(name: str, command: str, limit_s: float = LIMIT_S) -> None:
    """Run a command of the configuration with /bin/sh.

    Raise `ConfigError` with how it failed and the end of what it printed. Output goes to a file, not to a pipe: a
    command may leave something running that keeps a pipe open.
    """
    log.info("Running %s", name)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise ConfigError(f"The endpoint's {name} command did not end within {limit_s:.0f} s.") from None
        output.seek(0)
        printed = output.read().decode(errors="replace").strip()
    log.info("%s ended with status %d: %s", name, status, printed)
    if status != 0:
        said = f" It printed: {printed[-_SHOWN:]}" if printed else ""
        raise ConfigError(f"The endpoint's {name} command failed with exit code {status}.{said}")
