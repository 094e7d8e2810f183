"""Users' own computers: a home with an SSH key and twinlock-client, away from the site's files."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_testbed.daemons import as_user, run
from twinlock_testbed.scripts import Program
from twinlock_testbed.service import Person

OWNER = "nobody"
"""The account that users' programs run under here. It has nothing to do with their accounts at the site."""

_JOB = Path(__file__).with_name("signed_job.py")
_CLIENT = Path(__file__).parents[3] / "client" / "twinlock_client"


@dataclass(frozen=True)
class Computer:
    """One person's computer."""

    prefix: Path
    """Where Python and the SDK are installed."""
    home: Path
    """The person's home on it."""
    person: Person
    user: str
    """The person's account and its site, such as ``ada@cluster.example.org``."""

    @property
    def key(self) -> Path:
        """The private half of the SSH key."""
        return self.home / "id_ed25519"

    def public_key(self) -> str:
        """Return the public half, a line without its end."""
        return Path(f"{self.key}.pub").read_text().strip()

    def enroll(self, manager: str, line: str) -> str:
        """Enroll the account's key for results, which the site hands out as a line. Return what the command says."""
        path = self.home / "result.pub"
        path.write_text(line)
        return run(*self._python("-m", "twinlock_client", "enroll", self.user, manager, "--file", path)).strip()

    def submit(self, manager: str, config: dict[str, Any], tasks: int = 1) -> Program:
        """Start the person's script, which submits so many signed tasks with these options."""
        order = {"endpoint": manager, "token": self.person.token, "config": config, "tasks": tasks}
        order |= {"user": self.user, "key": str(self.key)}
        return Program(self.person, self._python(self.home / _JOB.name), order, tasks)

    def _python(self, *words: str | Path) -> list[str | Path]:
        variables = ["env", f"HOME={self.home}", f"PYTHONPATH={self.home / 'client'}"]
        return [*as_user(OWNER), *variables, self.prefix / "bin/python", *words]


def make(prefix: Path, folder: Path, person: Person, user: str) -> Computer:
    """Make a computer in `folder`, with a new SSH key. Raise `DaemonError` on failure."""
    made = Computer(prefix, folder / f"computer-of-{user.partition('@')[0]}", person, user)
    made.home.mkdir(mode=0o700)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", user, "-f", made.key)
    shutil.copytree(_CLIENT, made.home / "client" / _CLIENT.name)
    shutil.copy(_JOB, made.home)
    for path in (made.home, *made.home.rglob("*")):
        shutil.chown(path, OWNER)
    return made
