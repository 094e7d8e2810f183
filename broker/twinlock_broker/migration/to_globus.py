"""``twinlock configure --to-globus OLD DIR``: what was changed since goes back into the agent's folder."""

import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from twinlock_common.files import replacing

from twinlock_broker.config.folder import AGENT_PAM_SERVICE, Folder, open_folder, read_folder
from twinlock_broker.config.keys import RETIRED_KEYS
from twinlock_broker.errors import Fatal
from twinlock_broker.identity.documents import listed
from twinlock_broker.migration import unit
from twinlock_broker.migration.config_text import change
from twinlock_broker.migration.from_globus import MAPPING, SCHEMA, TEMPLATE, UNITS, Places
from twinlock_broker.migration.installation import Installation, read_unit, values
from twinlock_broker.migration.report import Report


def migrate(old: Path, places: Places) -> Report:
    """Write what differs into the folder `old` and return the report. Raise `Fatal` (66, 73, 78).

    The folder is made if it isn't there.
    """
    old, report = old.absolute(), Report()
    ours = Installation(open_folder(places.target), None)
    there = read_folder(old, ignored=RETIRED_KEYS) if old.is_dir() else Folder(old, ours.folder.settings, "")
    theirs = Installation(there, read_unit(places.unit or unit.default_path(old.name)))
    try:
        old.mkdir(mode=0o700, exist_ok=True)
        for path, content in _files(ours, theirs, places).items():
            report.done.append(f"{path}: {_put(path, content)}")
    except OSError as error:
        raise Fatal(os.EX_CANTCREAT, f"{error.filename or old}: {error.strerror}") from error
    report.done.append(
        "the policy's limits and allow_groups: not carried over, globus-compute-endpoint has no such keys"
    )
    report.next_steps.append(f"systemctl disable --now {UNITS}   (ends its user endpoints)")
    report.next_steps.append(theirs.start)
    return report


def _files(ours: Installation, theirs: Installation, places: Places) -> dict[Path, bytes]:
    """Return what the agent's folder has to hold, under the names that it has there already."""
    here, there = ours.folder, theirs.folder
    home = there.path
    moves = {
        "user_config_template_path": (here.template_path, _own(theirs, there.template_path, home / TEMPLATE)),
        "user_config_schema_path": (here.schema_path, _own(theirs, there.schema_path, home / SCHEMA)),
        "identity_mapping_config_path": (here.mapping_path, _own(theirs, there.mapping_path, home / MAPPING)),
    }
    moved = {
        key: (source, to) for key, (source, to) in moves.items() if source and source.exists() and ours.owns(source)
    }
    made = {to: source.read_bytes() for source, to in moved.values()}
    if "identity_mapping_config_path" in moved:
        source, to = moved["identity_mapping_config_path"]
        made[to] = _mapping(source)
    if ours.owns(here.template_path):
        to = moves["user_config_template_path"][1].parent
        made |= {to / name: (here.template_path.parent / name).read_bytes() for name in ours.included()}
    if (here.path / "user_environment.yaml").exists():
        made[home / "user_environment.yaml"] = (here.path / "user_environment.yaml").read_bytes()
    known = here.endpoint_id(places.state)
    if known and there.endpoint_id(home) != known:
        made[home / "endpoint.json"] = json.dumps({"endpoint_id": known}).encode()
    usual = (home / TEMPLATE, home / SCHEMA)  # the defaults, which config.yaml doesn't have to name
    changes = {key: None if to in usual else str(to) for key, (_, to) in moved.items()}
    changes |= _settings(here, there, places)
    return made | {home / "config.yaml": _config(here, there, changes)}


def _mapping(path: Path) -> bytes:
    """Return the identity mapping as the agent reads it: always a list of mappers."""
    text = path.read_bytes()
    try:
        content = json.loads(text)
    except ValueError:
        return text  # the agent says what is wrong with it
    return json.dumps(listed(content), indent=2).encode() if isinstance(content, dict) else text


def _own(theirs: Installation, path: Path | None, default: Path) -> Path:
    """Return the place that a file has in the agent's folder already; else `default`.

    A file elsewhere isn't the migration's to write.
    """
    return path if path and theirs.owns(path) else default


def _settings(here: Folder, there: Folder, places: Places) -> dict[str, Any]:
    """Return the keys of config.yaml that have another value with the agent, except for the paths of its files."""
    old = values(there)
    changes = {key: value for key, value in old.items() if key in RETIRED_KEYS}  # an agent of that age needs them
    service = _pam_service(places.policy)
    if service:
        changes["pam"] = {"enable": True, "service_name": service}
    if here.audit_path:
        changes["audit_log_path"] = old.get("audit_log_path", str(there.path / "audit.log"))
    if old.get("display_name") is None and here.settings["display_name"] == there.path.name:
        changes["display_name"] = None
    return changes


def _config(here: Folder, there: Folder, changes: dict[str, Any]) -> bytes:
    """Return config.yaml, letter by letter as it was if it says the same."""
    made = replace(there, source=change(here.source, changes))
    same = there.source and _said(there) == _said(made)
    return (there if same else made).source.encode()


def _said(folder: Folder) -> dict[str, Any]:
    """Return what config.yaml says, whether it spells the defaults out or not."""
    paths = {"user_config_template_path": TEMPLATE, "user_config_schema_path": SCHEMA}
    found = {key: value for key, value in values(folder).items() if value is not None}
    pam = {"enable": "pam" in found, "service_name": AGENT_PAM_SERVICE} | found.get("pam", {})
    return {key: str(folder.path / name) for key, name in paths.items()} | found | {"pam": pam["enable"] and pam}


def _pam_service(policy: Path) -> str:
    try:
        return str(tomllib.loads(policy.read_text()).get("pam_service", ""))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        text = f"{policy}: can't be read: {error}; its pam_service belongs in config.yaml"
        raise Fatal(os.EX_CONFIG, text) from error


def _put(path: Path, content: bytes) -> str:
    """Write the file if that changes it, and return what was done. What was there before stays beside it."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, content, 0o600)
        return "written"
    if path.read_bytes() == content:
        return "as it was"
    kept = _keep(path)
    _write(path, content, path.stat().st_mode & 0o777)
    return f"written; before: {kept.name}"


def _keep(path: Path) -> Path:
    """Give what is there now a further name, one that nothing has yet, and return it."""
    kept, number = path.with_name(f"{path.name}.before"), 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_name(f"{path.name}.before.{number}")
    os.link(path, kept, follow_symlinks=False)
    return kept


def _write(path: Path, content: bytes, mode: int) -> None:
    with replacing(path, durable=True) as draft:
        draft.unlink(missing_ok=True)  # of a migration that was killed
        draft.touch(mode=mode, exist_ok=False)
        draft.write_bytes(content)
