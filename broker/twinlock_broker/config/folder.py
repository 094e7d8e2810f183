"""An endpoint folder, as the agent's manager keeps it: which files there are, and what stands in them."""

import json
import os
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twinlock_common import user_environment
from twinlock_common.rendering import schema
from twinlock_common.site_files import is_there, load_yaml, read_file

from twinlock_broker.config.keys import MANAGER_HINTS, MANAGER_KEYS, read_keys
from twinlock_broker.errors import CommandError, Fatal

T = TypeVar("T")

AGENT_PAM_SERVICE = "globus-compute-endpoint"
"""The PAM service of the agent's `pam` without `service_name`."""


@dataclass(frozen=True, slots=True)
class Site:
    """The files that a start depends on. Read anew for each, so that an edit needs no restart."""

    template: str
    """The template's text."""
    schema: dict[str, Any] | None
    """The JSON schema for options; None if there is none."""
    environment: dict[str, str]
    """The variables of user_environment.yaml."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The endpoint folder at `path`."""

    path: Path
    settings: dict[str, Any]
    """The values of `MANAGER_KEYS`, by name."""
    source: str
    """The text of config.yaml; empty without the file."""

    @property
    def template_path(self) -> Path:
        """The configured template, else user_config_template.yaml.j2, else the same without .j2."""
        return self._named("user_config_template_path") or _first(
            self.path / "user_config_template.yaml.j2", self.path / "user_config_template.yaml"
        )

    @property
    def schema_path(self) -> Path:
        """The configured schema, else user_config_schema.json."""
        return self._named("user_config_schema_path") or self.path / "user_config_schema.json"

    @property
    def environment_path(self) -> Path:
        """The path of user_environment.yaml."""
        return self.path / user_environment.NAME

    @property
    def mapping_path(self) -> Path | None:
        """The configured identity mapping."""
        return self._named("identity_mapping_config_path")

    @property
    def audit_path(self) -> Path | None:
        """The configured audit log, of a high assurance endpoint only."""
        return self._named("audit_log_path") if self.settings["high_assurance"] else None

    def endpoint_id(self, state: Path) -> str | None:
        """Return the endpoint's uuid by endpoint.json of `state`, else of this folder; None if neither has one.

        Raise `Fatal` (66, 78) for a file that can't be read.
        """
        for path in (state / "endpoint.json", self.path / "endpoint.json"):
            try:
                if path.is_file():  # the broker's account could put a pipe there, which others would wait for
                    return str(uuid.UUID(json.loads(path.read_text())["endpoint_id"]))
            except OSError as error:
                raise Fatal(os.EX_NOINPUT, f"{path}: can't be read: {error.strerror}") from error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Fatal(os.EX_CONFIG, f"{path}: no endpoint_id in it; correct or remove the file") from error
        return None

    @property
    def parent_config(self) -> dict[str, Any]:
        """What templates find as `_GC.parent_config`: the settings as the agent's own configuration object has them."""
        pam = self.settings["pam"] or {"enable": False, "service_name": ""}
        service = pam["service_name"] or AGENT_PAM_SERVICE
        return self.settings | {"pam": pam | {"service_name": service}, "source_content": self.source}

    def read_site(self) -> Site:
        """Return the template and what goes with it. Raise `CommandError`: by then a user waits for an answer."""
        return Site(self.read_template(), self.read_schema(), self.read_environment())

    def read_template(self) -> str:
        """Return the template's text. Raise `CommandError`."""
        return _use(self.template_path, str)

    def read_schema(self) -> dict[str, Any] | None:
        """Return the schema for options, None if there is none and config.yaml names none. Raise `CommandError`."""
        named = self.settings["user_config_schema_path"] is not None
        read = _use if named else _use_if_there
        return read(self.schema_path, schema.parse)

    def read_environment(self) -> dict[str, str]:
        """Return the variables of user_environment.yaml. Raise `CommandError`."""
        path = self.environment_path
        return _use_if_there(path, user_environment.parse) or {}

    def _named(self, key: str) -> Path | None:
        value: Path | None = self.settings[key]
        return None if value is None else self.path / value


def open_folder(path: Path) -> Folder:
    """Return the endpoint folder at `path`, good to serve. Raise `Fatal`: 66 if it isn't one, 78 for its files."""
    folder = read_folder(path)
    for problem in problems(folder):
        raise problem
    return folder


def read_folder(path: Path, ignored: Collection[str] = ()) -> Folder:
    """Return the folder with its config.yaml, whatever the other files are. Raise `Fatal` (66, 78).

    Keys of config.yaml that are `ignored` may stand there, though nothing reads them.
    """
    _check_readable(path)
    if (path / "config.py").exists():
        raise Fatal(
            os.EX_CONFIG,
            f"{path / 'config.py'}: configuration by code isn't supported; write its values into config.yaml "
            "and remove config.py",
        )
    source = _text(path / "config.yaml")
    found = {key: value for key, value in _mapping(source, path / "config.yaml").items() if key not in ignored}
    settings = read_keys(MANAGER_KEYS, found, str(path / "config.yaml"), MANAGER_HINTS)
    return Folder(path, settings, source)


def _check_readable(path: Path) -> None:
    try:
        list(path.iterdir())
    except PermissionError as error:
        text = "this account may not read it; run the command as root, or as the broker's account"
        raise Fatal(os.EX_NOINPUT, f"{path}: {text}") from error
    except OSError as error:
        raise Fatal(os.EX_NOINPUT, f"{path}: no such folder; name the one that holds config.yaml") from error


def _mapping(source: str, path: Path) -> dict[Any, Any]:
    try:
        found = load_yaml(source) or {}
    except ValueError as error:
        raise Fatal(os.EX_CONFIG, f"{path}: not valid YAML: {error}") from error
    if not isinstance(found, dict):
        raise Fatal(os.EX_CONFIG, f"{path}: has to be a YAML mapping of keys to values")
    if "engine" in found:
        raise Fatal(os.EX_CONFIG, f"{path}: move the 'engine' block into user_config_template.yaml.j2")
    return found


def problems(folder: Folder) -> Iterator[Fatal]:
    """Yield all that keeps the folder from being served, each as what `open_folder` would raise (66, 78)."""
    if (folder.settings["pam"] or {}).get("enable"):
        text = "the spawner opens PAM sessions, not the broker: set pam_service in its policy, and remove this key"
        yield Fatal(os.EX_CONFIG, f"{folder.path / 'config.yaml'}: pam.enable: {text}")
    schema = folder.schema_path if folder.settings["user_config_schema_path"] else None
    gone = [path for path in (folder.template_path, folder.mapping_path, schema) if path and not path.is_file()]
    for path in gone:
        if path.exists():
            yield Fatal(os.EX_NOINPUT, f"{path}: has to be a regular file")
        else:
            yield Fatal(os.EX_NOINPUT, f"{path}: no such file; {folder.path / 'config.yaml'} or a default names it")
    files = (folder.template_path, folder.read_template), (folder.schema_path, folder.read_schema)
    for path, read in (*files, (folder.environment_path, folder.read_environment)):
        try:
            if path not in gone:
                read()
        except CommandError as error:
            yield Fatal(os.EX_CONFIG, error.detail)


def _first(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), paths[0])


def _text(path: Path) -> str:
    try:
        return read_file(path) if is_there(path) else ""  # as with the agent: no file, all defaults
    except OSError as error:
        raise Fatal(os.EX_NOINPUT, f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise Fatal(os.EX_CONFIG, f"{path}: can't be read: {error}") from error


def _use_if_there(path: Path, read: Callable[[str], T]) -> T | None:
    try:
        return _use(path, read) if is_there(path) else None
    except OSError as error:
        raise _unreadable(path, error) from error


def _use(path: Path, read: Callable[[str], T]) -> T:
    """Return what `read` makes of the text of `path`. Raise `CommandError`; only its detail names the file."""
    try:
        return read(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CommandError:
    text = "A configuration file of this endpoint can't be read. Tell the endpoint's administrator"
    return CommandError(text, f"{path}: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return what is wrong with a file, in one line for people."""
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str((error.strerror if isinstance(error, OSError) else None) or error)
