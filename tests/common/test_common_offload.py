"""Blocking calls off the loop."""

import asyncio
import threading

import pytest
from twinlock_common.offload import InOrder, Offload, in_thread


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


async def test_calls_in_order_give_what_they_return_or_raise() -> None:
    line = InOrder("test")
    begun, release = threading.Event(), threading.Event()

    def first() -> int:
        begun.set()
        release.wait()
        return 1

    calls = [line.run(first), line.run(threading.get_ident), line.run(lambda: 1 // 0), line.run(threading.get_ident)]
    await in_thread(begun.wait)
    assert not any(call.done() for call in calls)
    release.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert outcomes[0] == 1
    assert outcomes[1] == outcomes[3] != threading.get_ident()
    assert isinstance(outcomes[2], ZeroDivisionError)
