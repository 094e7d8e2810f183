"""``python -m twinlock_testbed --prefix DIR [--slurm]``: the demonstration."""

import argparse
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from twinlock_testbed.daemons import DaemonError
from twinlock_testbed.demo import Checks, demonstrate
from twinlock_testbed.demo_site import own_site, shared_site
from twinlock_testbed.progress import step
from twinlock_testbed.service import PORT

INTERRUPTED = 128 + signal.SIGINT


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration. Return 0 only if everything was as it should be."""
    parser = argparse.ArgumentParser(prog="make demo", description="A whole site on this machine, then nothing left.")
    parser.add_argument("--prefix", type=Path, required=True, metavar="DIR", help="where Twinlock is installed")
    parser.add_argument("--slurm", action="store_true", help="run the tasks in jobs of a private Slurm")
    options = parser.parse_args(arguments)
    if missing := _missing(options.slurm):
        print(f"make demo: {missing}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    _on_signals(_interrupt)
    checks = Checks()
    try:
        _run(options.prefix, options.slurm, checks)
    except KeyboardInterrupt:
        step("interrupted; everything was stopped and removed")
        return INTERRUPTED
    except DaemonError as error:
        checks.that(False, str(error))
    return _summary(checks)


def _on_signals(handler: Callable[..., None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    """Interrupt the demonstration once: a second Ctrl-C of an impatient person must not cut the cleaning up short."""
    _on_signals(signal.SIG_IGN)
    raise KeyboardInterrupt


def _missing(slurm: bool) -> str | None:
    """Return in a line what the demonstration needs and hasn't got."""
    if slurm and os.geteuid():
        return "SLURM=1 needs root: a private Slurm runs jobs as other users"
    if shutil.which("rabbitmq-server", path="/usr/sbin:/usr/bin:/usr/lib/rabbitmq/bin") is None:
        return "needs RabbitMQ; as root: apt-get install rabbitmq-server"
    try:
        socket.create_server(("127.0.0.1", PORT)).close()
    except OSError:
        return f"port {PORT} is taken; the SDK expects a local service there and nowhere else"
    return None


def _run(prefix: Path, slurm: bool, checks: Checks) -> None:
    with own_site(prefix) if os.geteuid() else shared_site(prefix, slurm) as site:
        try:
            demonstrate(site, checks)
        finally:
            if checks.failures:
                _show_logs(site.folder)
            _on_signals(signal.SIG_IGN)
            step("stopping and removing everything")


def _show_logs(folder: Path) -> None:
    for log in sorted(folder.rglob("*.log")):
        if "@" not in log.name and log.parent.name != "slurm":  # RabbitMQ's and Slurm's own say little
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")


def _summary(checks: Checks) -> int:
    if checks.failures:
        step(f"FAILED: {len(checks.failures)} things were wrong")
        for failure in checks.failures:
            print(f"  - {failure}")
        return 1
    step("done: every result was right, every endpoint ended, nothing is left")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
