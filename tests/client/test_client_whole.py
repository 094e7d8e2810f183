"""The whole way: `SignedExecutor`, the service, and a real endpoint in verified mode that runs as the account."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from endpoint_rig import NOBODY, PROGRAM
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect
from service_rig import ALICE, Manager, end_sdk, sdk_client
from twinlock_client import ResultRefused, SignedExecutor
from twinlock_client.records import enrolled
from twinlock_client.records.enrolled import Enrolled
from twinlock_client.user import User
from twinlock_signed import result_key
from verified_rig import SITE, USER, Host

pytestmark = pytest.mark.system

RESULT = 180.0
"""Seconds after which a result is taken not to come."""


def where_am_i(name: str) -> str:
    import os

    return f"{name} is uid {os.getuid()}"


def letters(text: str) -> set[str]:
    return set(text)


class Account:
    """The account `nobody` at the site, with a home, and root's files for it."""

    def __init__(self, folder: Path, mep: Manager) -> None:
        self.mep = mep
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        os.chown(self.home, NOBODY, NOBODY)
        self._url = str(mep.credentials["heartbeat_queue_info"]["connection_url"])
        self.host = Host(folder, self._url)
        address = urlsplit(self._url)
        self._verified = self.host.configure(manager=mep.id, amqp_hosts=[f"{address.hostname}:{address.port}"])

    @contextmanager
    def endpoint(self) -> Iterator[None]:
        """The endpoint that the manager is asked for, as the spawner starts it."""
        told = self.mep.command()[1]["kwargs"]
        name = f"uep.{self.mep.id}.{told['amqp_creds']['endpoint_id']}"
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        environment = {"HOME": str(self.home), "USER": "nobody", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        process = subprocess.Popen(
            [*drop, str(PROGRAM), "--verified", str(self._verified), name],
            stdin=subprocess.PIPE,
            cwd=self.home,
            env=environment,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"amqp_creds": told["amqp_creds"], "config": "", "ep_info": {}}).encode())
            process.stdin.close()
            yield
        finally:
            process.terminate()
            process.wait(RESULT)


@pytest.fixture
def account(mep: Manager) -> Iterator[Account]:
    """The account."""
    folder = Path(tempfile.mkdtemp(prefix="client-verified-", dir="/tmp"))
    yield Account(folder, mep)
    shutil.rmtree(folder)
    end_sdk()


def test_from_a_submission_to_a_result(account: Account) -> None:
    serializer = ComputeSerializer(strategy_code=PureSourceTextInspect())  # of a function in a test
    executor = SignedExecutor(
        account.mep.id, sdk_client(ALICE), user=USER, key=account.host.keys["user"], serializer=serializer
    )
    executor.task_group_id = None  # that of another test's service
    try:
        first = executor.submit(where_am_i, "Ada")
        with account.endpoint():
            assert first.result(RESULT) == f"Ada is uid {NOBODY}"
            with pytest.raises(Exception, match=r"(?i)serializ"):  # JSON can't say a set
                executor.submit(letters, "abc").result(RESULT)
            line = (account.home / result_key.PUBLIC_PLACE[2:]).read_text()
            enrolled.add(Enrolled(User("nobody", SITE), account.mep.id, result_key.read_public(line)))
            assert executor.submit(letters, "abc").result(RESULT) == {"a", "b", "c"}
            other = Enrolled(User("nobody", SITE), account.mep.id, "0" * 64)
            enrolled.add(other, instead=True)
            with pytest.raises(ResultRefused, match="result"):
                executor.submit(letters, "abc").result(RESULT)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
