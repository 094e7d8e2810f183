"""What verified mode needs: the administrator's file as endpoints read it, OpenSSH, and no FIPS mode."""

import pwd
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twinlock_signed import settings
from twinlock_signed.errors import ConfigError
from twinlock_signed.settings import Settings

from twinlock_broker.checks.finding import Finding, Subject, failure, ok, unknown, warning
from twinlock_broker.config import policies
from twinlock_broker.config.folder import Folder, problems
from twinlock_broker.config.keys import MANAGER_KEYS, read_keys
from twinlock_broker.config.placed import Placed
from twinlock_broker.errors import Fatal

OLDEST_SSH = (8, 9)

_SSH = "/usr/bin/ssh"
_FIPS = Path("/proc/sys/crypto/fips_enabled")
_LIMIT = 10.0
"""Seconds for OpenSSH to say its version."""


def check(path: Path, folder: Folder, place: Placed) -> Iterator[Finding]:
    """Check what the verified programs of the policy at `path` need, for the endpoint in `folder`."""
    policy = policies.read(path)
    programs = policy.get("programs")
    if not programs:
        yield unknown(Subject.VERIFIED, f"{path}: no programs can be read from it; name the policy with --policy")
        return
    files = sorted({file for argv in programs.values() if (file := policies.verified_file(argv)) is not None})
    if not files:
        yield ok(Subject.VERIFIED, "no program of the policy runs in verified mode")
        return
    for file in files:
        try:
            here = settings.load(file)
        except ConfigError as error:
            yield from (failure(Subject.VERIFIED, line) for line in str(error).splitlines())
            continue
        odd = [failure(Subject.VERIFIED, str(problem)) for problem in problems(folder_of(here, folder))]
        odd += _beside_the_broker(file, here, policy, _known(folder, place), place.runtime)
        yield from odd or [ok(Subject.VERIFIED, f"{file}: keys, values, and the files that it names")]
    yield from (_fips(), _openssh())


def folder_of(here: Settings, folder: Folder) -> Folder:
    """Return the folder that verified endpoints render from, which has the usual names; `folder` is the broker's."""
    usual = read_keys(MANAGER_KEYS, {}, "")
    return Folder(here.endpoint_dir, usual | {"high_assurance": folder.settings["high_assurance"]}, "")


def _known(folder: Folder, place: Placed) -> str | None:
    """Return the uuid under which the endpoint is registered; None if that isn't known."""
    try:
        return folder.endpoint_id(place.state)
    except Fatal:
        return None


def _beside_the_broker(
    file: Path, here: Settings, policy: Mapping[str, Any], known: str | None, runtime: Path | None
) -> Iterator[Finding]:
    """Yield what fits neither the registration nor the broker."""
    if known not in (None, here.manager):
        yield failure(
            Subject.VERIFIED,
            f"{file}: manager is {here.manager}, and the endpoint is registered as {known}: all that users sign for it "
            "would be refused",
        )
    if runtime is not None and here.control != runtime / "control.sock":
        yield warning(
            Subject.VERIFIED,
            f"{file}: control is {here.control}, and the broker listens on {runtime}/control.sock: its endpoints would "
            "get no fresh credentials; make them the same",
        )
    uid = _uid(policy.get("broker_user"))
    if uid not in (None, here.broker_uid):
        yield failure(
            Subject.VERIFIED,
            f"{file}: broker_uid is {here.broker_uid}, and the policy's broker_user has the uid {uid}: its endpoints "
            "wouldn't talk to the broker",
        )


def _uid(name: object) -> int | None:
    try:
        return pwd.getpwnam(str(name)).pw_uid
    except KeyError:
        return None


def _fips() -> Finding:
    try:
        is_on = _FIPS.read_text().strip() == "1"
    except FileNotFoundError:  # of a kernel that doesn't know the mode
        is_on = False
    except OSError as error:
        return unknown(Subject.VERIFIED, f"{_FIPS}: {error.strerror}; whether this host is in FIPS mode isn't known")
    if not is_on:
        return ok(Subject.VERIFIED, "this host isn't in FIPS mode")
    return warning(
        Subject.VERIFIED,
        "this host is in FIPS mode: endpoints verify tasks by libsodium's Ed25519, which isn't validated for it, and "
        "OpenSSH may refuse users' Ed25519 keys. Ask your security officer",
    )


def _openssh() -> Finding:
    try:
        done = subprocess.run([_SSH, "-V"], capture_output=True, text=True, timeout=_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else "it doesn't answer"
        return failure(Subject.VERIFIED, f"{_SSH}: {reason}; install OpenSSH {_version(OLDEST_SSH)} or later")
    found = re.search(r"OpenSSH_\D*(\d+)\.(\d+)", done.stderr)
    if found is None:
        return unknown(Subject.VERIFIED, f"{_SSH}: its version can't be read: {done.stderr.strip()[:100]}")
    version = int(found[1]), int(found[2])
    if version < OLDEST_SSH:
        text = f"OpenSSH is version {_version(version)}: no signed work can run here before {_version(OLDEST_SSH)}"
        return failure(Subject.VERIFIED, f"{text}; update it")
    return ok(Subject.VERIFIED, f"OpenSSH is version {_version(version)}")


def _version(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))
