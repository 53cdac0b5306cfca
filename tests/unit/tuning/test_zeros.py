"""A count that stays at zero, as a pod may report it, is a number as any other."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import combinations

import pytest

from support.intervals import STEADY, intervals
from vllm_operator.tuning.load import Load, measured

COUNTS = sorted(
    name for name, value in STEADY.items() if isinstance(value, float) and name != "seconds"
)
PAIRS = [*((name,) for name in COUNTS), *combinations(COUNTS, 2)]


def numbers(load: Load) -> list[float]:
    found = (getattr(load, one.name) for one in fields(load))
    return [one for one in found if isinstance(one, float | int)]


def test_there_are_counts_to_leave_at_zero() -> None:
    assert len(COUNTS) > 15


@pytest.mark.parametrize("left", PAIRS, ids=" and ".join)
def test_a_load_is_measured_whatever_count_stays_at_zero(left: tuple[str, ...]) -> None:
    load = measured(intervals(40, **dict.fromkeys(left, 0.0)))
    assert load is None or all(map(math.isfinite, numbers(load)))
    assert (load is None) == bool({"first_tokens", "generated_tokens"} & {*left})


def test_requests_that_no_sample_meets_are_no_clients_that_ask_again() -> None:
    load = measured(intervals(40, running=0.0, waiting=0.0))
    assert load is not None
    assert (load.population, load.dispersion, load.in_flight) == (None, None, 0.0)


@pytest.mark.parametrize("number", [2, 20, 40, 240])
@pytest.mark.parametrize("busy", [30.0, 300.0])
def test_shares_of_the_time_are_all_of_it_and_their_rates_the_rate(
    number: int, busy: float
) -> None:
    half = number // 2
    quiet = intervals(half, first_tokens=30.0)
    other = [replace(one, end=one.end + 15.0 * half) for one in intervals(half, first_tokens=busy)]
    load = measured(quiet + other)
    assert load is not None
    assert sum(share for share, _ in load.rates) == pytest.approx(1.0)
    assert sum(share * rate for share, rate in load.rates) == pytest.approx(load.rate, rel=0.02)
    assert (len(load.rates) > 1) == (busy > 30.0 and number >= 40)
