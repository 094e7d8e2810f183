"""What root says about signed work on this host, and whose account this process runs under."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twinlock_common import user_environment
from twinlock_common.site_files import is_there, load_json, read_file
from twinlock_signed import account, errors, settings, trusted
from twinlock_signed.delegation import Host
from twinlock_signed.settings import Settings
from twinlock_signed.ssh import revoked_keys
from twinlock_signed.ssh.signer_sources import File
from twinlock_signed.trusted import Trusted

from twinlock_endpoint.errors import ConfigError

T = TypeVar("T")

_TEMPLATES = ("user_config_template.yaml.j2", "user_config_template.yaml")
_SCHEMA = "user_config_schema.json"


@dataclass(frozen=True, slots=True)
class Site:
    """The administrator's file, and the account."""

    settings: Settings
    account: str
    """The account's name."""
    home: Path
    """The account's home directory."""

    @property
    def host(self) -> Host:
        """Who delegations have to be for."""
        return Host(self.account, self.settings.site, self.settings.manager, self.settings.longest_delegation)

    @property
    def template(self) -> Path:
        """The path of the template."""
        paths = [self.settings.endpoint_dir / name for name in _TEMPLATES]
        return next((path for path in paths if path.exists()), paths[0])

    def trusted(self) -> Trusted:
        """Return whose signatures count now. Raise `errors.ConfigError` if that can't be known."""
        return trusted.read(self.settings, self.account, self.home)

    def read_template(self) -> str:
        """Return the template's text. Raise `ConfigError`."""
        return _use(self.template, str)

    def read_schema(self) -> dict[str, Any] | None:
        """Return the schema for options; None if there is none. Raise `ConfigError`."""
        path = self.settings.endpoint_dir / _SCHEMA
        return _use_if_there(path, _schema)

    def read_environment(self) -> dict[str, str]:
        """Return the variables for the endpoint and its tasks. Raise `ConfigError`."""
        path = self.settings.endpoint_dir / user_environment.NAME
        return _use_if_there(path, user_environment.parse) or {}

    def check_keys(self) -> None:
        """Raise `ConfigError` if this account can't read root's files about keys: who signs, and what is revoked."""
        for source in self.settings.signers:
            if isinstance(source, File):
                _read_keys(source, partial(source.read, self.account))
        if self.settings.revoked:
            _read_keys(self.settings.revoked, partial(revoked_keys.read, str(self.settings.revoked)))


def load(path: Path) -> Site:
    """Return what the file at `path` says, for the account of this process. Raise `ConfigError`."""
    try:
        return Site(settings.load(path), account.own_account(), Path.home())
    except errors.ConfigError as error:
        raise ConfigError(str(error)) from error


def _schema(text: str) -> dict[str, Any]:
    schema = load_json(text)
    if schema is True:
        return {}  # JSON schema's short form of "anything"
    if not isinstance(schema, dict):
        raise ValueError("it has to be a JSON object")
    return schema


def _use_if_there(path: Path, read: Callable[[str], T]) -> T | None:
    try:
        return _use(path, read) if is_there(path) else None
    except OSError as error:
        raise _unusable(path, error) from error


def _use(path: Path, read: Callable[[str], T]) -> T:
    try:
        return read(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(path, error) from error


def _read_keys(what: object, read: Callable[[], object]) -> None:
    try:
        read()
    except (OSError, errors.ConfigError) as error:
        raise _unusable(what, error) from error


def _unusable(what: object, error: Exception) -> ConfigError:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return ConfigError(
        f"{what} can't be used ({reason}). In verified mode users' endpoints read it; tell the administrator."
    )
