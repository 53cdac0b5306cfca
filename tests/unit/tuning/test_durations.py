"""Every duration of tuning, as the documentation has it."""

import pytest

from vllm_operator.tuning.durations import Durations

MINUTE, HOUR = 60.0, 3600.0
SECONDS = {
    "interval": 15.0,
    "stale": MINUTE,
    "warm_up": 2 * MINUTE,
    "evaluation": 5 * MINUTE,
    "block": 10 * MINUTE,
    "hysteresis": 10 * MINUTE,
    "settled": 15 * MINUTE,
    "cold_cache": 15 * MINUTE,
    "starved": 15 * MINUTE,
    "broken": 15 * MINUTE,
    "window": 30 * MINUTE,
    "lost": 30 * MINUTE,
    "drift": 30 * MINUTE,
    "recommendation": HOUR,
    "verification": HOUR,
    "cool_down": HOUR,
    "trial": 2 * HOUR,
    "cool_down_after_rollback": 4 * HOUR,
    "history": 6 * HOUR,
    "quiet_trial": 8 * HOUR,
    "longest_cool_down": 24 * HOUR,
    "day": 24 * HOUR,
    "out_of_memory": 30 * 24 * HOUR,
}


@pytest.mark.parametrize(("name", "seconds"), SECONDS.items())
def test_a_duration_is_what_it_is_said_to_be_and_scales_with_the_interval(name, seconds):
    assert getattr(Durations(), name) == seconds
    assert getattr(Durations(1.0), name) == seconds / 15


def test_no_duration_is_without_its_figure():
    named = {name for name in dir(Durations) if not name.startswith("_")}
    assert named == set(SECONDS)
