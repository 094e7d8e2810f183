"""``twinlock configure --from-globus OLD DIR``: ours from the agent's. OLD and its unit stay as they are."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_common.files import replacing

from twinlock_broker.config.keys import RETIRED_KEYS
from twinlock_broker.errors import Fatal
from twinlock_broker.migration import service_account
from twinlock_broker.migration.config_text import change, set_pam_service
from twinlock_broker.migration.installation import Installation, read, values
from twinlock_broker.migration.report import Report
from twinlock_broker.migration.service_account import ServiceAccount

TEMPLATE = "user_config_template.yaml.j2"
SCHEMA = "user_config_schema.json"
MAPPING = "identity_mapping_config.json"
UNITS = "twinlock-broker twinlock-spawner twinlock-spawner.socket"
_CLIENT = {"GLOBUS_COMPUTE_CLIENT_ID": "id", "GLOBUS_COMPUTE_CLIENT_SECRET": "secret"}


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are."""

    target: Path
    """The new endpoint folder."""
    state: Path
    """The broker's state folder."""
    logs: Path
    """The broker's folder for the audit log."""
    policy: Path
    """The spawner's policy."""
    unit: Path | None
    """The agent's unit; None if it is where `enable-on-boot` puts it."""

    @property
    def client(self) -> Path:
        """The folder of a client's `id` and `secret`, which the broker's unit loads as credentials."""
        return self.target.parent / "client"


def migrate(source: Path, places: Places) -> Report:
    """Make the folder and return the report.

    Raise `Fatal` (66, 67, 73, 78) before anything was written, or 73 if writing fails.
    """
    old = read(source.absolute(), places.unit)
    account, report = service_account.find(places.policy), Report()
    known = _endpoint_id(old, places)
    files = _files(old, places, report)
    pam = _policy_with_pam(old, places)
    commands = [path for path in old.mapping_commands() if not account.may_read(path, 0o1)]
    try:
        account.make_folder(places.target)
        for name, content in files.items():
            (places.target / name).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            account.write(places.target / name, content)
        _take_client(old, places, account, report)
        if pam is not None:
            _rewrite(places.policy.resolve(), pam)
            report.done.append(f"{places.policy}: pam_service = {old.pam_service!r}, instead of pam in config.yaml")
    except OSError as error:
        raise Fatal(os.EX_CANTCREAT, f"{error.filename}: {error.strerror}; existing files weren't changed") from error
    report.done.append(f"the endpoint keeps its uuid: {known}" if known else "it never ran, so it has no uuid yet")
    _advise(old, places, account, commands, report)
    return report


def _endpoint_id(old: Installation, places: Places) -> str | None:
    """Return the uuid that stays. Raise `Fatal` (78) if the broker's state has another one, which would count."""
    known, counts = old.folder.endpoint_id(old.folder.path), old.folder.endpoint_id(places.state)
    if known != counts:
        file = places.state / "endpoint.json"
        raise Fatal(
            os.EX_CONFIG, f"{file}: belongs to another endpoint, {counts}; move it away, or name another --state"
        )
    return known


def _files(old: Installation, places: Places, report: Report) -> dict[str, bytes]:
    """Return the new folder's files. What lies outside of the old folder is named by its path, and stays there."""
    folder, changes, names = old.folder, _changes(old, places, report), dict[str, Path]()
    if old.owns(folder.template_path):
        names |= {name: folder.template_path.parent / name for name in old.included()}
        names[TEMPLATE] = folder.template_path
    if folder.schema_path.exists() and old.owns(folder.schema_path):
        names[SCHEMA] = folder.schema_path
    if folder.mapping_path and old.owns(folder.mapping_path):
        names[MAPPING] = folder.mapping_path
    for name in ("user_environment.yaml", "endpoint.json"):
        if (folder.path / name).exists():
            names[name] = folder.path / name
    for name, path in names.items():
        report.done.append(f"{places.target / name}: copied from {path}")
    return {"config.yaml": change(folder.source, changes).encode()} | {n: p.read_bytes() for n, p in names.items()}


def _changes(old: Installation, places: Places, report: Report) -> dict[str, Any]:
    """Return what changes in config.yaml, and report it."""
    folder, settings = old.folder, old.folder.settings
    changes: dict[str, Any] = {key: None for key in values(folder) if key in RETIRED_KEYS}
    for key in ("user_config_template_path", "user_config_schema_path"):
        if settings[key] and old.owns(folder.path / settings[key]):
            changes[key] = None
    if folder.mapping_path and old.owns(folder.mapping_path):
        changes["identity_mapping_config_path"] = MAPPING
    if folder.audit_path and old.owns(folder.audit_path):
        changes["audit_log_path"] = str(places.logs / "audit.log")
    if settings["display_name"] is None and places.target.name != old.name:
        changes["display_name"] = old.name
    if old.pam_service:
        changes["pam"] = None
    report.done.append(f"{places.target / 'config.yaml'}: copied from {folder.path / 'config.yaml'}")
    report.done += [f"  {key}: {'removed' if value is None else value}" for key, value in changes.items()]
    return changes


def _policy_with_pam(old: Installation, places: Places) -> str | None:
    """Return the policy's new text, None if it needs none or isn't there. Raise `Fatal` (78)."""
    if not old.pam_service or not places.policy.exists():
        return None
    try:
        return set_pam_service(places.policy.read_text(), old.pam_service)
    except (OSError, ValueError) as error:
        raise Fatal(
            os.EX_CONFIG, f"{places.policy}: pam_service can't be set: {error}; correct the policy first"
        ) from error


def _rewrite(path: Path, text: str) -> None:
    """Replace the policy as a whole, since a spawner may read it at any moment; owner and mode stay."""
    with replacing(path, durable=True) as draft:
        draft.write_text(text)
        shutil.copymode(path, draft)
        os.chown(draft, path.stat().st_uid, path.stat().st_gid)


def _take_client(old: Installation, places: Places, account: ServiceAccount, report: Report) -> None:
    """Write the client's id and secret from the unit into files that only root can read."""
    found = {
        file: old.unit.environment[name] for name, file in _CLIENT.items() if old.unit and name in old.unit.environment
    }
    if len(found) < len(_CLIENT):
        return
    places.client.mkdir(mode=0o700, exist_ok=True)
    for path, value in ((places.client / file, value) for file, value in found.items()):
        if path.exists():
            report.done.append(f"{path}: exists already; not changed")
            continue
        account.write(path, f"{value}\n".encode(), secret=True)
        report.done.append(f"{path}: from the unit's environment; only root can read it")


def _advise(old: Installation, places: Places, account: ServiceAccount, commands: list[Path], report: Report) -> None:
    target, policy = places.target, places.policy
    report.done.append(f"{old.folder.path} and its unit: not changed")
    kept = (old.folder.template_path, old.folder.schema_path, old.folder.mapping_path)
    for path in (path for path in kept if path and path.exists() and not old.owns(path)):
        report.done.append(f"{path}: used where it is")
        if not account.may_read(path):
            report.next_steps.append(
                f"{path}: {account.name} can't read it: move it, and name the new place in config.yaml"
            )
    for path in commands:
        report.next_steps.append(f"{path}: {account.name} can't run it: move it, and name the new place in the mapping")
    if old.pam_service and not policy.exists():
        report.next_steps.append(
            f"put pam_service = {old.pam_service!r} into the spawner's policy ({policy} isn't there)"
        )
    report.next_steps.append(f"twinlock check --policy {policy} {target}")
    report.next_steps += _of_login(old, places, account) + _of_unit(old)
    if old.pam_service:
        report.next_steps.append("systemctl try-reload-or-restart twinlock-spawner   (reads the policy again)")
    report.next_steps.append(f"{old.stop}   (ends its user endpoints and their tasks)")
    report.next_steps.append(f"systemctl enable --now {UNITS}")
    report.back.append(f"systemctl disable --now {UNITS} && {old.start}")
    report.back.append(
        f"To keep changes made since then, first run: twinlock configure --to-globus {old.folder.path} {target}"
    )


def _of_login(old: Installation, places: Places, account: ServiceAccount) -> list[str]:
    if (places.client / "secret").exists():
        return []
    stays = f"the login in {old.tokens} is root's, stays there and isn't used; " if old.tokens else ""
    folder = f"install -d -m 700 -o {account.name} -g {account.name} {places.state}"
    login = f"sudo -u {account.name} twinlock login --state {places.state} {places.target}"
    return [
        f"{stays}if the owner is a client, put its id and secret into the files id and secret in {places.client}",
        f"if it is a person: {folder} && {login}",
    ]


def _of_unit(old: Installation) -> list[str]:
    if old.unit is None:
        return []
    head = f"not carried over from {old.unit.path.name}"
    left = [f"{head}: {text}; where endpoints need it: systemctl edit twinlock-spawner" for text in old.unit.others]
    names = ", ".join(sorted(old.unit.environment.keys() - _CLIENT.keys()))
    return left + ([f"{head}: {names}; where it is needed: systemctl edit twinlock-broker"] if names else [])
