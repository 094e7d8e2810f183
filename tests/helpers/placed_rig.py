"""An endpoint's folder with the broker's file, state and login beside it, as the packages put them."""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker_rest import Service, rest_service
from broker_rig import ALICE, MANAGER

TWINLOCK = Path(sys.executable).with_name("twinlock")
SECRET = "the-client-s-secret"


class Site:
    """A folder as /etc/twinlock, with an endpoint that is registered and a client's login."""

    def __init__(self, etc: Path) -> None:
        self.etc = etc
        """The folder in place of /etc/twinlock."""
        self.endpoint = etc / "endpoint"
        self.state = etc / "state"
        self.state.mkdir(mode=0o700)
        (self.state / "endpoint.json").write_text(json.dumps({"endpoint_id": MANAGER}))
        (etc / "client").mkdir(mode=0o700)
        self.log_in("the-client", SECRET)
        self.twinlock("configure", self.endpoint)
        (etc / "broker.yaml").write_text(f"endpoint_dir: {self.endpoint}\nstate_dir: {self.state}\n")

    def log_in(self, client_id: str, secret: str) -> None:
        """Put the client's id and secret where systemd takes them from."""
        (self.etc / "client" / "id").write_text(f"{client_id}\n")
        (self.etc / "client" / "secret").write_text(f"{secret}\n")

    def twinlock(
        self, *words: str | Path, user: str | None = None, stdin: str = "", **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """The command's outcome, with no login in its environment."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith("GLOBUS_")} | more
        account: Any = {"user": user, "group": "nogroup", "extra_groups": []} if user else {}
        argv = [str(word) for word in (TWINLOCK, *words)]
        pipes: dict[str, Any] = {"input": stdin, "capture_output": True, "text": True}
        return subprocess.run(argv, env=environment, timeout=120, check=False, cwd="/", **pipes, **account)

    def findings(self, service: Mapping[str, str], *words: str) -> dict[str, tuple[str, str]]:
        """By subject the kind of the last thing that the check says about it, and all that it says, a line each."""
        done = self.twinlock("check", "--json", *words, self.endpoint, **service)
        assert SECRET not in done.stdout + done.stderr
        kinds: dict[str, str] = {}
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for row in json.loads(done.stdout)["findings"]:
            kinds[row["subject"]] = row["kind"]
            texts[row["subject"]].append(row["text"])
        return {subject: (kind, "\n".join(texts[subject])) for subject, kind in kinds.items()}


@contextmanager
def placed_site() -> Iterator[Site]:
    """Such a folder, which every account can enter."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Site(Path(name))


@contextmanager
def asked_service() -> Iterator[Service]:
    """A service that knows the endpoint as Alice's, and the login as Alice."""
    with rest_service("amqp://x:y@127.0.0.1:1/z") as made:
        made.answer = {"uuid": MANAGER, "owner": ALICE, "sub": ALICE, "identity_set": []}
        yield made
