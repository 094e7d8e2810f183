"""The administrator's file for verified work, ``/etc/twinlock/verified.toml``: root's, as is all that it names."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twinlock_common.keys import Key, nearest

from twinlock_signed.errors import ConfigError
from twinlock_signed.keys import CLAIMS, KEYS, REQUIRED, Address
from twinlock_signed.ssh.signer_sources import Command, File, Source
from twinlock_signed.trust import check_command, check_trusted


class Settings(NamedTuple):
    """The values of `KEYS`, which say what they mean."""

    manager: str
    site: str
    endpoint_dir: Path
    allowed_functions: frozenset[str] | None
    control: Path
    broker_uid: int
    amqp_hosts: frozenset[Address]
    claims: str | None
    longest_delegation: int
    revoked: Path | None
    signers: tuple[Source, ...]

    def claims_of(self, account: str, home: Path) -> Path:
        """Return the folder with the claims of an account that has this home."""
        place = (self.claims or f"{CLAIMS}/{self.manager}").replace("%u", account)
        return home / place[2:] if place.startswith("~/") else Path(place)


def load(path: Path) -> Settings:
    """Return the settings in the file at `path`.

    Raise `ConfigError`, with a line for each fault, also if others than root could change the file or what it names.
    """
    check_trusted(os.fspath(path))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}; correct the file") from error
    settings = _read(path, values)
    for place in _named(settings):
        check_trusted(place)
    for source in settings.signers:
        if isinstance(source, Command):
            check_command(source.argv)
    return settings


def _read(path: Path, values: Mapping[str, Any]) -> Settings:
    table = {key.name: key for key in KEYS}
    wrong = [f"unknown key {name!r}; {nearest(name, table)}" for name in values if name not in table]
    found = {}
    for key in KEYS:
        try:
            found[key.name] = _value(key, values)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(f"{path}: {text}" for text in wrong))
    return Settings(**found)


def _value(key: Key, values: Mapping[str, Any]) -> Any:
    unit = f" in {key.unit}" if key.unit else ""
    wanted = f"it has to be {key.kind.name}{unit}: {key.meaning}"
    if key.name not in values and key.default is REQUIRED:
        raise ValueError(f"{key.name} is missing; {wanted}")
    try:
        return key.read(values.get(key.name))
    except ValueError:
        raise ValueError(f"{key.name} is {values[key.name]!r:.200}; {wanted}") from None


def _named(settings: Settings) -> Iterator[str]:
    """Yield what holds for all accounts: files, and all of the endpoint folder, since templates include files."""
    yield os.fspath(settings.endpoint_dir)
    yield from map(os.fspath, _contents(settings.endpoint_dir))
    if settings.revoked:
        yield os.fspath(settings.revoked)
    for source in settings.signers:
        if isinstance(source, File) and "%u" not in source.path:
            yield source.path


def _contents(folder: Path) -> list[Path]:
    """Return all that is in a folder. Raise `ConfigError` if that can't be known."""
    try:
        found = sorted(folder.rglob("*"))
        elsewhere = [entry for entry in found if entry.is_symlink() and entry.is_dir()]
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: {error.strerror}; users have to be able to look into the folder"
        ) from error
    for entry in elsewhere:
        raise ConfigError(f"{entry}: what is in the folder that it links to isn't looked at; put the folder here")
    return found
