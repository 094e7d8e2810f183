"""A site for users of the client: a manager endpoint at the service, and real user endpoints of the account nobody."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from endpoint_rig import NOBODY, PROGRAM
from service_rig import Manager
from twinlock_client.records import enrolled
from twinlock_client.records.enrolled import Enrolled
from twinlock_client.user import User
from twinlock_signed import result_key
from verified_rig import SITE, THREADS, Host

END = 180.0
"""Seconds for an endpoint to end."""


class Account:
    """The account `nobody` at the site, with a home, and root's files for it."""

    def __init__(self, folder: Path, mep: Manager) -> None:
        """Have the account's home in a folder that every account can enter."""
        self.mep = mep
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        os.chown(self.home, NOBODY, NOBODY)
        url = str(mep.credentials["heartbeat_queue_info"]["connection_url"])
        self.host = Host(folder, url)
        address = urlsplit(url)
        self._file = self.host.configure(manager=mep.id, amqp_hosts=[f"{address.hostname}:{address.port}"])

    @contextmanager
    def endpoint(self, *, is_verified: bool = True) -> Iterator[str]:
        """The endpoint that the manager is asked for, as the spawner starts it; its uuid."""
        told = self.mep.command()[1]["kwargs"]["amqp_creds"]
        document = {"amqp_creds": told, "config": "" if is_verified else THREADS, "ep_info": {}}
        words = ["--verified", str(self._file)] if is_verified else []
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        environment = {"HOME": str(self.home), "USER": "nobody", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        process = subprocess.Popen(
            [*drop, str(PROGRAM), *words, f"uep.{self.mep.id}.{told['endpoint_id']}"],
            stdin=subprocess.PIPE,
            cwd=self.home,
            env=environment,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(document).encode())
            process.stdin.close()
            yield told["endpoint_id"]
        finally:
            process.terminate()
            process.wait(END)

    def enroll(self) -> None:
        """Enroll the account's key, as `twinlock-client enroll` does. It is there when the account has run a task."""
        line = (self.home / result_key.PUBLIC_PLACE[2:]).read_text()
        enrolled.add(Enrolled(User("nobody", SITE), self.mep.id, result_key.read_public(line)))
