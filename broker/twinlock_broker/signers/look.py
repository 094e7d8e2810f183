"""The process that looks at an account's signers as an endpoint of the account does: it runs as the account.

Standard input is a JSON object: `config`, the administrator's file, and `account`. Standard output gets one as well,
see `answer.SHAPE`. Nothing is changed, and of the key for results only the public half is read.
"""

import json
import os
import pwd
import sys
import time
from pathlib import Path
from typing import Any

from twinlock_signed import regular_file, result_key, settings
from twinlock_signed.account import own_account
from twinlock_signed.errors import ConfigError, Refused
from twinlock_signed.replay import revoked_ids
from twinlock_signed.settings import Settings
from twinlock_signed.ssh import revoked_keys, signer_sources
from twinlock_signed.ssh.signer_sources import Found

from twinlock_broker.signers import described

MOST = 256
"""Signers, skipped lines and ids that are listed; of more, which an account can have, only the number is said."""

_MOST_PUBLIC = 4096
"""Bytes of the file with the public half of the account's key."""


def look(config: Path, account: str) -> dict[str, Any]:
    """Return what there is. Raise `ConfigError` if a file of the administrator, or the account, can't be used."""
    own = own_account()
    if own != account:
        raise ConfigError(f"account {account!r}: the user database calls its uid {own!r}; ask for that name")
    here, home = settings.load(config), Path(pwd.getpwuid(os.getuid()).pw_dir)
    problems: list[str] = []
    revoked = _revoked_keys(here, problems)
    sources = [_source(found, account, revoked) for found in signer_sources.find(here.signers, account)]
    public, why = _result_key(home)
    return {
        "site": here.site,
        "manager": here.manager,
        "sources": sources,
        "revoked": _revoked_ids(home, problems),
        "problems": problems,
        "result_key": public,
        "no_result_key": why,
    }


def _revoked_keys(here: Settings, problems: list[str]) -> bytes:
    try:
        return revoked_keys.read(str(here.revoked)) if here.revoked else b""
    except ConfigError as error:
        problems.append(str(error))
        return b""


def _source(found: Found, account: str, revoked: bytes) -> dict[str, Any]:
    """Return what a source has for the account."""
    skipped, problem, more = list(found.parsed.skipped), found.problem, 0
    signers: list[dict[str, Any]] = []
    try:
        lines = described.of_account(found.parsed.lines, account)
        more = max(0, len(lines) - MOST)
        signers = [each._asdict() for each in described.describe(lines[:MOST], revoked)]
    except Refused as error:
        problem = str(error)
    return {
        "source": str(found.source),
        "problem": problem,
        "signers": signers,
        "more_signers": more,
        "skipped": skipped[:MOST],
        "more_skipped": max(0, len(skipped) - MOST),
    }


def _revoked_ids(home: Path, problems: list[str]) -> dict[str, Any]:
    """Return what the user has revoked."""
    try:
        found = revoked_ids.read(home / revoked_ids.PLACE[2:])
    except ConfigError as error:
        problems.append(str(error))
        return {"delegations": [], "more_delegations": 0, "before": ""}
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.before)) if found.before else ""
    more = max(0, len(found.ids) - MOST)
    return {"delegations": sorted(found.ids)[:MOST], "more_delegations": more, "before": before}


def _result_key(home: Path) -> tuple[str, str]:
    """Return the public half of the key for results, and why there is none."""
    path = home / result_key.PUBLIC_PLACE[2:]
    try:
        text = regular_file.read(path, _MOST_PUBLIC).decode("ascii", "replace")
        return result_key.read_public(text), ""
    except FileNotFoundError:
        return "", f"{path}: there is no such file; it is made when the account's first endpoint in this mode starts"
    except OSError as error:
        return "", f"{path}: it can't be read: {error.strerror}"
    except (ConfigError, Refused) as error:
        return "", f"{path}: {error}"


def main() -> None:
    """Answer the question on standard input."""
    asked = json.load(sys.stdin)
    try:
        answer: dict[str, Any] = {"found": look(Path(asked["config"]), asked["account"])}
    except ConfigError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
