"""A line a minute for each who causes events without end, with their number."""

import asyncio
import logging

import pytest
from twinlock_common import log_ration
from twinlock_common.log_ration import MOST, LogRation


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged."""
    return [record.getMessage() for record in caplog.records if record.name == "culprits"]


async def test_an_account_with_thousands_of_uids_makes_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    ration = LogRation(logging.getLogger("culprits"))
    for uid in range(100_000, 165_536):
        ration.warning(uid, "uid %d", uid)
    assert len(said(caplog)) == MOST + 1


async def test_a_minute_has_a_line_and_its_end_another_with_the_number(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_ration, "MINUTE", 1.0)
    ration = LogRation(logging.getLogger("culprits"))
    for size in range(5):
        ration.warning("eve", "%s sent %d bytes", "eve", size)
    ration.warning("eve", "%s left", "eve")
    ration.warning("ada", "%s sent %d bytes", "ada", 7)
    at_once = ["eve sent 0 bytes", "eve left", "ada sent 7 bytes"]
    assert said(caplog) == at_once
    async with asyncio.timeout(60):
        while len(said(caplog)) < 4:
            await asyncio.sleep(0.01)
    assert said(caplog) == [*at_once, "eve sent 0 bytes (4 more times within a minute)"]
