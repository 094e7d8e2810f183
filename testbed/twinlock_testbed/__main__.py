"""``python -m twinlock_testbed --prefix DIR [--slurm | --verified]``: the demonstration."""

import argparse
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from twinlock_testbed.daemons import DaemonError
from twinlock_testbed.demo import Checks, demonstrate
from twinlock_testbed.demo_site import own_site, shared_site
from twinlock_testbed.progress import step
from twinlock_testbed.service import PORT
from twinlock_testbed.verified.site import verified_site

INTERRUPTED = 128 + signal.SIGINT


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration. Return 0 only if everything was as it should be."""
    parser = argparse.ArgumentParser(prog="make demo", description="A whole site on this machine, then nothing left.")
    parser.add_argument("--prefix", type=Path, required=True, metavar="DIR", help="where Twinlock is installed")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--slurm", action="store_true", help="run the tasks in jobs of a private Slurm")
    kind.add_argument("--verified", action="store_true", help="run signed tasks only, and let a hostile broker try")
    options = parser.parse_args(arguments)
    if missing := _missing(options):
        print(f"make demo: {missing}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    _on_signals(_interrupt)
    checks = Checks()
    try:
        _run(options, checks)
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


def _missing(options: argparse.Namespace) -> str | None:
    """Return in a line what the demonstration needs and hasn't got."""
    if options.slurm and os.geteuid():
        return "SLURM=1 needs root: a private Slurm runs jobs as other users"
    if options.verified and os.geteuid():
        return "VERIFIED=1 needs root: what an endpoint in verified mode believes has to be root's"
    if options.verified and shutil.which("ssh-keygen", path="/usr/bin") is None:
        return "VERIFIED=1 needs OpenSSH; as root: apt-get install openssh-client"
    if shutil.which("rabbitmq-server", path="/usr/sbin:/usr/bin:/usr/lib/rabbitmq/bin") is None:
        return "needs RabbitMQ; as root: apt-get install rabbitmq-server"
    try:
        socket.create_server(("127.0.0.1", PORT)).close()
    except OSError:
        return f"port {PORT} is taken; the SDK expects a local service there and nowhere else"
    return None


def _run(options: argparse.Namespace, checks: Checks) -> None:
    with ExitStack() as stack:
        if options.verified:
            from twinlock_testbed.verified import demo as verified_demo  # it loads the SDK, which takes a second

            here = stack.enter_context(verified_site(options.prefix))
            site, show = here.site, partial(verified_demo.demonstrate, here, checks)
        else:
            made = own_site(options.prefix) if os.geteuid() else shared_site(options.prefix, slurm=options.slurm)
            site = stack.enter_context(made)
            show = partial(demonstrate, site, checks)
        try:
            show()
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
