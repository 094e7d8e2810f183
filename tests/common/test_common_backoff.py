"""Delays between attempts."""

from itertools import islice

from twinlock_common.backoff import delays


def test_each_delay_is_up_to_twice_the_one_before_it_until_the_longest() -> None:
    for limit, delay in zip((0.5, 1.0, 2.0, 4.0, 4.0, 4.0), delays(first=0.5, most=4.0), strict=False):
        assert limit / 2 <= delay <= limit


def test_two_who_begin_together_do_not_come_back_together() -> None:
    assert list(islice(delays(), 10)) != list(islice(delays(), 10))
