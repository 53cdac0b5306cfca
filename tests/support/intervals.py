"""Intervals of a pod, for tests that care for some of their numbers only."""

from vllm_operator.tuning.intervals import Interval

STEADY = {
    "seconds": 15.0,
    "steps": 1_000.0,
    "gaps": 7_470.0,
    "gap_seconds": 112.05,
    "slow_gaps": None,
    "first_tokens": 30.0,
    "first_token_seconds": 3.0,
    "slow_first_tokens": None,
    "prompt_tokens": 24_000.0,
    "cached_tokens": 0.0,
    "generated_tokens": 7_500.0,
    "running": 7.5,
    "waiting": 0.0,
    "cache_usage": 0.02,
    "preemptions": 0.0,
    "finished": 30.0,
    "failed": 0.0,
    "rejected": 0.0,
    "finished_prompt_tokens": 24_000.0,
    "finished_output_tokens": 7_500.0,
    "finished_output_squares": 2_700_000.0,
    "queue_seconds": 0.0,
    "request_seconds": 115.0,
}
"""30 requests of 800 and 250 tokens in 15 s, 15 ms a step."""


def interval(number: int = 0, pod: str = "a", **given: object) -> Interval:
    """The interval with this number, steady but for what is given."""
    return Interval(pod=pod, end=15.0 * (number + 1), **{**STEADY, **given})


def intervals(count: int, pod: str = "a", **given: object) -> list[Interval]:
    """Consecutive ones."""
    return [interval(number, pod, **given) for number in range(count)]
