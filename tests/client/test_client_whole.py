"""The whole way: `SignedExecutor`, the service, and a real endpoint in verified mode that runs as the account."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from client_site import Account
from endpoint_rig import NOBODY
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect
from service_rig import ALICE, Manager, end_sdk, sdk_client
from twinlock_client import ResultRefused, SignedExecutor
from twinlock_client.records import enrolled
from twinlock_client.records.enrolled import Enrolled
from twinlock_client.user import User
from verified_rig import SITE, USER

pytestmark = pytest.mark.system

RESULT = 180.0
"""Seconds after which a result is taken not to come."""


def where_am_i(name: str) -> str:
    import os

    return f"{name} is uid {os.getuid()}"


def letters(text: str) -> set[str]:
    return set(text)


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
            with pytest.raises(TaskExecutionFailed, match=f"enroll {USER} {account.mep.id}$"):  # JSON can't say a set
                executor.submit(letters, "abc").result(RESULT)
            account.enroll()
            assert executor.submit(letters, "abc").result(RESULT) == {"a", "b", "c"}
            other = Enrolled(User("nobody", SITE), account.mep.id, "0" * 64)
            enrolled.add(other, instead=True)
            with pytest.raises(ResultRefused, match="result"):
                executor.submit(letters, "abc").result(RESULT)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
