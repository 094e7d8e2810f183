"""The command line: read the policy, open what it names, serve."""

import argparse
import os
import pwd
import sys
from typing import NoReturn

import prctl

from twinlock_spawner import tree
from twinlock_spawner.audit import Audit
from twinlock_spawner.channel import listen
from twinlock_spawner.policy import Policy, PolicyError, load
from twinlock_spawner.server import Server

EX_USAGE = 100
EX_SYSTEM = 111


class _Parser(argparse.ArgumentParser):
    """Usage errors exit with 100, as all commands of Twinlock do."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def command(arguments: list[str]) -> int:
    """Run the spawner; the value is its exit code: 0, 78 (policy), 100 (usage), 111 (system)."""
    parser = _Parser("twinlock-spawner", description="Start user endpoints as the users that the policy allows.")
    parser.add_argument("--policy", default="/etc/twinlock/spawner.toml", metavar="FILE", help="policy (TOML)")
    parser.add_argument("--check", action="store_true", help="read the policy, say whether it is good, and exit")
    options = parser.parse_args(arguments)
    try:
        policy = load(options.policy)
        broker = pwd.getpwnam(policy.broker_user)
    except PolicyError as error:
        return _fail(os.EX_CONFIG, str(error))
    except KeyError:
        return _fail(os.EX_CONFIG, f"broker_user: there is no account {policy.broker_user}; create it first")
    if options.check:
        print(f"{options.policy}: good")
        return os.EX_OK
    try:
        _serve(policy, broker)
    except OSError as error:
        return _fail(EX_SYSTEM, str(error))
    return os.EX_OK


def _serve(policy: Policy, broker: pwd.struct_passwd) -> None:
    prctl.set_dumpable(0)
    prctl.set_child_subreaper(1)
    prctl.set_proctitle("twinlock-spawner")
    if policy.cgroup:
        tree.prepare(policy.cgroup)
    audit = Audit(policy.audit_log)
    listener = listen(policy.socket, broker)
    audit.line("started", uid=os.geteuid(), pid=os.getpid())
    try:
        Server(policy, broker.pw_uid, listener, audit).run()
    finally:
        os.unlink(policy.socket)


def _fail(code: int, text: str) -> int:
    print(f"twinlock-spawner: {text}", file=sys.stderr)
    return code
