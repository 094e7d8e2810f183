"""The keys of ``verified.toml``: the table from which validation, error texts and the documentation are made."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from twinlock_common.keys import Key, Kind

from twinlock_signed.account import is_site
from twinlock_signed.ssh.signer_sources import AUTHORIZED_KEYS, AuthorizedKeys, Command, File, Source
from twinlock_signed.statement import SHA256, UUID, Form

CLAIMS = "~/.local/state/twinlock"
"""The folder in an account's home that has one with the claims for each manager endpoint."""

REQUIRED = object()
"""The default of a key that has to be there."""

_DAY = 86400
_MOST_SECONDS = 10 * 365 * _DAY


class Address(NamedTuple):
    """Where RabbitMQ listens."""

    host: str
    port: int


def _formed(form: Form) -> Kind:
    def read(value: Any) -> str:
        if not form.accepts(value):
            raise ValueError
        return str(value)

    return Kind(form.words, read)


def _site(value: Any) -> str:
    if not is_site(_text(value)):
        raise ValueError
    return str(value)


def _text(value: Any) -> str:
    if type(value) is not str or "\0" in value:
        raise ValueError
    return value


def _path(value: Any) -> Path:
    if not _text(value).startswith("/"):
        raise ValueError
    return Path(value)


def _claims(value: Any) -> str:
    place = _text(value)
    if not place.startswith("~/") and not (place.startswith("/") and "%u" in place):
        raise ValueError
    return place


def _seconds(value: Any) -> int:
    if type(value) is not int or not 0 < value <= _MOST_SECONDS:
        raise ValueError
    return value


def _uid(value: Any) -> int:
    if type(value) is not int or not 0 <= value < (1 << 32) - 1:
        raise ValueError
    return value


def _list(value: Any) -> list[Any]:
    if type(value) is not list or not value:
        raise ValueError
    return value


def _digests(value: Any) -> frozenset[str]:
    if type(value) is not list or not all(map(SHA256.accepts, value)):
        raise ValueError
    return frozenset(value)


def _addresses(value: Any) -> frozenset[Address]:
    return frozenset(map(_address, _list(value)))


def _address(value: Any) -> Address:
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+):(\d{1,5})", value) if type(value) is str else None
    if found is None or not 0 < int(found[2]) < 1 << 16:
        raise ValueError
    return Address(found[1].strip("[]"), int(found[2]))


def _sources(value: Any) -> tuple[Source, ...]:
    return tuple(map(_source, _list(value)))


def _source(value: Any) -> Source:
    words = [value] if type(value) is str else _list(value)
    if value == AUTHORIZED_KEYS:
        return AuthorizedKeys()
    argv = tuple(map(_text, words))
    _path(argv[0])
    if type(value) is str:
        return File(argv[0])
    if any(word.startswith("/") and "%u" in word for word in argv):  # nobody could say now whose file that will be
        raise ValueError
    return Command(argv)


_SITE = Kind("a host name in small letters", _site)
_PATH = Kind("an absolute path in quotes", _path)
_CLAIMS = Kind("a path in quotes that begins with ~/, or an absolute one with %u", _claims)
_SECONDS = Kind("a whole number, 1 or more, without quotes", _seconds)
_UID = Kind("a uid, without quotes", _uid)
_DIGESTS = Kind(f"a list of texts of {SHA256.words}", _digests)
_ADDRESSES = Kind('a list of hosts with their ports: ["compute.amqps.globus.org:443"]', _addresses)
_SOURCES = Kind(f'a list of paths, commands as lists of texts, and "{AUTHORIZED_KEYS}"', _sources)

KEYS = (
    Key("manager", _formed(UUID), REQUIRED, "", "the manager endpoint's uuid"),
    Key("site", _SITE, REQUIRED, "", "what users call the site; they sign for ACCOUNT@SITE"),
    Key("endpoint_dir", _PATH, REQUIRED, "", "folder with template, schema and user_environment.yaml"),
    Key("allowed_functions", _DIGESTS, None, "", "SHA-256 of the only function buffers that may run; without it, all"),
    Key("control", _PATH, REQUIRED, "", "path of the broker's control socket"),
    Key("broker_uid", _UID, REQUIRED, "", "uid that the broker runs under"),
    Key("amqp_hosts", _ADDRESSES, REQUIRED, "", "the only hosts and ports of queues"),
    Key("claims", _CLAIMS, None, "", f"folder that all hosts share, %u in it is the account; default {CLAIMS}/MANAGER"),
    Key("longest_delegation", _SECONDS, _DAY, "s", "for how long a user may delegate to a session"),
    Key("revoked", _PATH, None, "", "a key revocation list, or a list of public keys"),
    Key("signers", _SOURCES, REQUIRED, "", "where the keys of an account are found"),
)
