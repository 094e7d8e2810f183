"""A root installation of the agent: the endpoint folder, its unit, and where its login is."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2 import meta

from twinlock_broker.config.folder import AGENT_PAM_SERVICE, Folder, problems, read_folder
from twinlock_broker.config.keys import RETIRED_KEYS
from twinlock_broker.errors import Fatal
from twinlock_broker.identity.documents import read_documents
from twinlock_broker.migration import unit


@dataclass(frozen=True, slots=True)
class Installation:
    """What there is of an installation."""

    folder: Folder
    unit: unit.Unit | None
    """None if `enable-on-boot` was never run."""

    @property
    def name(self) -> str:
        """The endpoint's name, which is its folder's."""
        return self.folder.path.name

    @property
    def pam_service(self) -> str | None:
        """The PAM service that it opens sessions with, if any."""
        pam: dict[str, Any] = self.folder.settings["pam"] or {"enable": False}
        return (pam["service_name"] or AGENT_PAM_SERVICE) if pam["enable"] else None

    @property
    def tokens(self) -> Path | None:
        """The file with the tokens of whoever logged in as root; None if there is none."""
        path = self.folder.path.parent / "storage.db"
        return path if path.exists() else None

    @property
    def start(self) -> str:
        """The command that starts it."""
        if self.unit is None:
            return f"globus-compute-endpoint start {self.name}"
        return f"systemctl enable --now {self.unit.path.stem}"

    @property
    def stop(self) -> str:
        """The command that stops it for good."""
        if self.unit is None:
            return f"globus-compute-endpoint stop {self.name}"
        return f"systemctl disable --now {self.unit.path.stem}"

    def owns(self, path: Path) -> bool:
        """Return whether the file is in the folder, so that it has to move with it."""
        return path.resolve().is_relative_to(self.folder.path.resolve())

    def mapping_commands(self) -> list[Path]:
        """Return the programs that external mappers run. Raise `Fatal` (78) for a mapping that can't be read."""
        path = self.folder.mapping_path
        if path is None:
            return []
        try:
            return [Path(document["command"][0]) for document in read_documents(path) if document.get("command")]
        except (ValueError, AttributeError, LookupError, TypeError, OSError) as error:
            raise Fatal(os.EX_CONFIG, f"{path}: the identity mapping can't be read: {error}") from error

    def included(self) -> Iterator[str]:
        """Yield the template's other files: those that include, extends and import name, and those that these name.

        Each comes once.
        """
        home, seen = self.folder.template_path.parent, set[str]()
        names = [self.folder.template_path.name]
        while names:
            found = _references((home / names.pop()).read_text(encoding="utf-8", errors="replace"))
            new = {name for name in found if name is not None and (home / name).is_file()} - seen
            seen |= new
            names += sorted(new)
            yield from sorted(new)


def read(path: Path, unit_path: Path | None) -> Installation:
    """Return the installation in the folder `path`. Raise `Fatal` (66, 78) if it can't be carried over."""
    folder = read_folder(path, ignored=RETIRED_KEYS)
    without_pam = replace(folder, settings=folder.settings | {"pam": None})
    for problem in problems(without_pam):
        raise problem
    return Installation(folder, read_unit(unit_path or unit.default_path(folder.path.name)))


def read_unit(path: Path) -> unit.Unit | None:
    """Return the unit at `path`, None if there is none. Raise `Fatal` (66) if it can't be read."""
    try:
        return unit.read(path)
    except (OSError, ValueError) as error:
        raise Fatal(os.EX_NOINPUT, f"{path}: can't be read: {error}") from error


def _references(text: str) -> set[str | None]:
    """Return the names in a template's include, extends and import.

    None stands for those that aren't known before the template runs.
    """
    try:
        return set(meta.find_referenced_templates(jinja2.Environment(autoescape=False).parse(text)))  # noqa: S701
    except jinja2.TemplateSyntaxError:
        return set()  # `twinlock check` says what is wrong with it


def values(folder: Folder) -> dict[str, Any]:
    """Return config.yaml as it stands there, without defaults."""
    found: dict[str, Any] = yaml.safe_load(folder.source) or {}
    return found
