"""Requests that wait a shorter time are a gain, whatever an interval without any says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unit.tuning.test_judge import pod, told
from vllm_operator.tuning.intervals import Interval
from vllm_operator.tuning.judge import Verdict


def queued(name: str, seconds: float, idle: int | None = None) -> list[Interval]:
    """Intervals whose requests wait so long, but for one in which none ended."""
    found = [replace(one, queue_seconds=seconds * one.finished) for one in pod(name, 16)]
    if idle is not None:
        found[idle] = replace(found[idle], finished=0.0, queue_seconds=0.0)
    return found


@pytest.mark.parametrize("idle", [None, 20])
@pytest.mark.parametrize(
    ("seconds", "verdict", "said"),
    [
        (0.1, Verdict.GOOD, "requests wait 0.1 s in the queue in place of 2 s"),
        (1.7, Verdict.GOOD, "requests wait 1.7 s in the queue in place of 2 s"),
        (1.8, Verdict.GO_ON, "no gain is shown"),
        (2.0, Verdict.GO_ON, "no gain is shown"),
    ],
)
def test_a_queue_that_is_a_tenth_shorter_is_a_gain(
    seconds: float, verdict: Verdict, said: str, idle: int | None
) -> None:
    found = told(queued("b", seconds, idle), queued("a", 2.0))
    assert (found.verdict, found.reason.partition("; ")[2]) == (verdict, said)
