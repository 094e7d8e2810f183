"""A site with a manager endpoint in verified mode: root's files, and users of whom the site knows two by their keys."""

import pwd
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from twinlock_testbed.demo_site import USERS, Site, run_folder, shared_site
from twinlock_testbed.manager import Manager, toml
from twinlock_testbed.progress import step
from twinlock_testbed.service import Service
from twinlock_testbed.verified import computers
from twinlock_testbed.verified.computers import Computer

SITE = "cluster.site.example"
"""What users call the site."""

STRANGER = "twl-eve"
"""A user whose SSH key the site doesn't know."""

_NOBODY = str(uuid.UUID(int=0))


@dataclass(frozen=True)
class VerifiedSite:
    """What the demonstration of signed work works with."""

    site: Site
    folder: Path
    """A folder that every account may enter, and that only root may change."""
    computers: list[Computer]
    """Those of the people of the site, in the same order."""


@contextmanager
def verified_site(prefix: Path) -> Iterator[VerifiedSite]:
    """Start the site as root. Its policy admits user endpoints in verified mode, and nothing else."""
    with run_folder() as folder:
        settings = folder / "verified.toml"
        # The manager endpoint's uuid is known when it has registered, and the policy names only files that are there.
        settings.write_text(toml_lines({"manager": _NOBODY}))
        with shared_site(prefix, users=(*USERS, STRANGER), verified=settings) as site:
            made = [
                computers.make(prefix, folder, person, f"{account.pw_name}@{SITE}")
                for person, account in zip(site.people, site.accounts, strict=True)
            ]
            _write_signers(folder / "signers", made)
            step("the spawner's policy has verified_only: no program may run what nobody has signed")
            settings.write_text(toml_lines(_settings(site.manager, site.service, folder / "signers")))
            yield VerifiedSite(site, folder, made)


def _write_signers(path: Path, made: list[Computer]) -> None:
    """Write an allowed_signers file (ssh-keygen(1)) with the keys of all but the stranger."""
    accounts = [(each.user.partition("@")[0], each.public_key()) for each in made]
    known = [f"{account} {key}\n" for account, key in accounts if account != STRANGER]
    path.write_text("".join(known))
    step(f"the site knows the SSH keys of {' and '.join(USERS)}, and none of {STRANGER}")


def _settings(manager: Manager, service: Service, signers: Path) -> dict[str, object]:
    assert manager.broker_user is not None
    rabbitmq = urlsplit(service.amqp()["url"])
    return {
        "manager": manager.endpoint_id,
        "site": SITE,
        "endpoint_dir": str(manager.endpoint_dir),
        "control": str(manager.runtime / "control.sock"),
        "broker_uid": pwd.getpwnam(manager.broker_user).pw_uid,
        "amqp_hosts": [f"{rabbitmq.hostname}:{rabbitmq.port}"],
        "signers": [str(signers)],
    }


def toml_lines(values: dict[str, object]) -> str:
    """Return a TOML file with these keys."""
    return "".join(f"{name} = {toml(value)}\n" for name, value in values.items())
