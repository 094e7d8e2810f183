"""Blocking calls off the loop."""

import threading

import pytest
from twinlock_common.offload import Offload, in_thread


async def test_a_call_gives_what_it_returns_or_raises() -> None:
    offload = Offload("test", 1)
    assert await offload.run(60, threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await offload.run(60, lambda: 1 // 0)
    assert await offload.run(60, lambda: 2) == 2


async def test_a_hung_call_keeps_its_place_until_it_ends() -> None:
    offload, release = Offload("test", 1), threading.Event()
    with pytest.raises(TimeoutError):
        await offload.run(0.05, release.wait)
    with pytest.raises(TimeoutError):
        await offload.run(0.05, lambda: 1)
    release.set()
    assert await offload.run(60, lambda: 1) == 1


async def test_a_call_without_a_limit_gives_what_it_returns_or_raises() -> None:
    assert await in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
