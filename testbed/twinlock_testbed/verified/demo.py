"""The demonstration of signed work: two users with keys, one whose key isn't known, and a hostile broker that fails."""

import re
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twinlock_signed import result_key

from twinlock_testbed.demo import Checks
from twinlock_testbed.progress import step
from twinlock_testbed.verified.attacks import Attempt, Campaign
from twinlock_testbed.verified.hostile import hostile_broker
from twinlock_testbed.verified.site import STRANGER, VerifiedSite

_TIMEOUT = 300.0
_INDENT = " " * 12
_OF_A_LOG = re.compile(r"^[\d-]+ [\d:,]+ [A-Z]+ [\w.]+: ")
"""What the endpoint's log has before each text: time, level, module."""

_WIDTH = 120
"""Characters of a line on the screen."""


def demonstrate(here: VerifiedSite, checks: Checks) -> None:
    """Do the job: signed work of the users that the site knows, and then everything that a hostile broker tries."""
    _run_users(here, checks)
    _enroll(here)
    _attack(here, checks)


def _run_users(here: VerifiedSite, checks: Checks) -> None:
    """Have everybody submit a task."""
    manager = here.site.manager.endpoint_id
    scripts = []
    for computer in here.computers:
        name = computer.user.partition("@")[0]
        step(f"{name} signs a task and submits it")
        scripts.append(computer.submit(manager, {"account_id": f"{name}-one"}))
    for script, account in zip(scripts, here.site.accounts, strict=True):
        [line] = script.lines(_TIMEOUT)
        uid = line["result"]["uid"] if "result" in line else None
        if account.pw_name == STRANGER:
            checks.that("error" in line, f"{STRANGER}'s task ran, and nobody knows the key")
            step(f"no result for {account.pw_name}, whose key isn't known")
            _show(line.get("error", "").splitlines()[-1])
        else:
            checks.that(uid == account.pw_uid, f"{account.pw_name}: {line}")
            step(f"result for {account.pw_name}: uid {uid}")


def _enroll(here: VerifiedSite) -> None:
    """Enroll the first user's account, with what an administrator hands out."""
    computer, account = here.computers[0], here.site.accounts[0]
    line = Path(account.pw_dir, result_key.PUBLIC_PLACE[2:]).read_text()
    step(f"{account.pw_name} enrolls the key with which the account signs its results")
    _show(computer.enroll(here.site.manager.endpoint_id, line))


def _attack(here: VerifiedSite, checks: Checks) -> None:
    """Have a hostile broker try everything while the first user waits for two tasks."""
    computer, account = here.computers[0], here.site.accounts[0]
    step(
        f"the broker is taken over: somebody has its account and the queues, and wants to run code as {account.pw_name}"
    )
    with hostile_broker(here.site.manager, account, here.folder) as broker, ExitStack() as stack:
        step(f"{account.pw_name} submits two more tasks, which the hostile broker intercepts")
        script = computer.submit(here.site.manager.endpoint_id, {"account_id": f"{account.pw_name}-two"}, tasks=2)
        stack.callback(script.stop)
        trace = computer.home / "taken-over"
        campaign = Campaign(broker, trace)
        count = 0
        for count, attempt in enumerate(campaign.attempts(), 1):
            _tell(count, attempt)
        campaign.forge_a_result()
        _tell(count + 1, _forged(script.lines(_TIMEOUT), account.pw_uid, checks))
        for path in (broker.trace, trace):
            checks.that(not path.exists(), f"somebody else's code ran: it has made {path}")
    step(f"{count + 1} attempts; nothing has run but what {account.pw_name} had signed")


def _forged(lines: list[dict[str, Any]], uid: int, checks: Checks) -> Attempt:
    """Return what the user's computer said to a forged result. Check that the other task has a good one."""
    results = [line["result"] for line in lines if "result" in line]
    errors = [line["error"] for line in lines if "error" in line]
    checks.that([result["uid"] for result in results] == [uid], f"one result of uid {uid} was expected: {lines}")
    checks.that([error.partition(":")[0] for error in errors] == ["ResultRefused"], f"no forged result: {lines}")
    return Attempt("answer the second task with a pickle", "refused on the user's own computer", " ".join(errors))


def _tell(number: int, attempt: Attempt) -> None:
    step(f"attempt {number}: {attempt.what}")
    _show(f"{attempt.outcome}: {_OF_A_LOG.sub('', attempt.log)}")


def _show(text: str) -> None:
    """Show what a log or a program says."""
    print(
        textwrap.fill(text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False),
        flush=True,
    )
