"""Accounts and sites, by names that can stand on a command line, in a list of ssh's patterns, and in a path."""

import os
import pwd
import re

from twinlock_signed.errors import ConfigError

_ACCOUNT = re.compile(r"[!-~]{1,256}")
_NOT_IN_ACCOUNT = '/,*?!"'
"""What ends a path's component, and what is a pattern, its end or a quotation for ssh-keygen."""

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SITE = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")


def is_account(name: str) -> bool:
    """Return whether signed work can be for an account of this name."""
    if name in (".", "..") or name.startswith(("-", "#")):
        return False
    return _ACCOUNT.fullmatch(name) is not None and not any(mark in name for mark in _NOT_IN_ACCOUNT)


def is_site(name: str) -> bool:
    """Return whether it has the form of a host name (RFC 1123), in small letters."""
    return _SITE.fullmatch(name) is not None


def own_account() -> str:
    """Return the name of the account that this process runs under, as the user database has it.

    Raise `ConfigError` if it has no name, if the name is also another account's, or isn't good for `is_account`.
    """
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
        back = pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigError(f"uid {uid}: the user database has no account for it; see `getent passwd {uid}`") from None
    if back != uid:
        raise ConfigError(f"account {name!r}: it is uid {uid} and uid {back}; give each uid a name of its own")
    if not is_account(name):
        raise ConfigError(
            f"account {name!r}: signed work can't be for this name; it needs one of printable ASCII without space,"
            f" {' '.join(_NOT_IN_ACCOUNT)} and without - or # at its beginning"
        )
    return name
