"""The token bucket lets through its rate and its burst, and no more."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgrealtime.rates import Rate, TokenBucket

rates = st.builds(
    Rate, amount=st.integers(1, 100), seconds=st.integers(1, 60), burst=st.none() | st.integers(1, 200)
)


@given(rates, st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=40))
def test_no_stretch_of_time_exceeds_rate_and_burst(rate: Rate, tries: list[tuple[float, int]]) -> None:
    bucket = TokenBucket(rate, 0)
    now, taken = 0.0, []
    for pause, amount in tries:
        now += pause
        if bucket.take(amount, now):
            taken.append((now, amount))
    for first, last in itertools.combinations_with_replacement(range(len(taken)), 2):
        seconds = taken[last][0] - taken[first][0]
        total = sum(amount for _, amount in taken[first : last + 1])
        assert total <= rate.capacity + seconds * rate.amount / rate.seconds + 1e-6


@given(rates)
def test_full_bucket_gives_its_capacity_at_once_and_then_nothing(rate: Rate) -> None:
    bucket = TokenBucket(rate, 0)
    assert bucket.take(rate.capacity, 0)
    assert not bucket.take(0.5, 0)


@given(rates)
def test_empty_bucket_is_full_again_after_the_time_that_takes(rate: Rate) -> None:
    bucket = TokenBucket(rate, 0)
    bucket.take(rate.capacity, 0)
    assert bucket.take(rate.capacity, rate.capacity * rate.seconds / rate.amount + 1e-6)


def test_who_asks_for_too_much_loses_nothing() -> None:
    bucket = TokenBucket(Rate(10, 1), 0)
    assert not bucket.take(11, 0)
    assert bucket.take(10, 0)


def test_who_asks_within_the_rate_is_never_refused() -> None:
    bucket = TokenBucket(Rate(10, 1, burst=1), 0)
    assert all(bucket.take(1, second / 8) for second in range(100))


def test_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = TokenBucket(Rate(10, 1), 100)
    bucket.take(5, 100)
    assert bucket.take(5, 50)
    assert not bucket.take(1, 50)


@pytest.mark.parametrize("numbers", [(0, 1), (-1, 1), (1, 0), (1, -1), (1, 1, 0), (1, 1, -1)])
def test_rate_refuses_what_isnt_positive(numbers: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Rate(*numbers)


def test_burst_is_the_amount_unless_given() -> None:
    assert (Rate(30, 1).capacity, Rate(30, 1, burst=60).capacity) == (30, 60)
