"""What the real engine's log says of its steps, and what is fitted to it."""

from __future__ import annotations

import pytest
from support_steps import Costs, Step, fitted, logged, timed

LOG = """\
1796070000.100000 INFO 11-30 20:00:00 [loggers.py:193] Engine 000: Iteration(7): 1 context \
requests, 100 context tokens, 2 generation requests, 2 generation tokens, iteration elapsed time: \
3.21 ms, CPU KV cache usage: 12.5%
1796070000.104000 INFO 11-30 20:00:00 [loggers.py:201] Engine 000: Avg prompt throughput: 10.0
1796070000.105000 INFO 11-30 20:00:00 [loggers.py:193] Engine 000: Iteration(8): 0 context \
requests, 0 context tokens, 3 generation requests, 40 generation tokens, iteration elapsed time: \
3.30 ms, CPU KV cache usage: 13.0%
"""


def step(at: float, number: int, sequences: int, decoding: int, tokens: int) -> Step:
    return Step(at, number, sequences, decoding, tokens, 0.5)


def test_a_line_of_the_log_is_a_step() -> None:
    assert logged(LOG) == [
        Step(1796070000.1, 7, 3, 2, 102, 0.125),
        Step(1796070000.105, 8, 3, 3, 40, 0.13),
    ]


def test_a_step_lasts_from_the_end_of_the_one_before() -> None:
    steps = [step(1.0, 1, 1, 0, 9), step(1.5, 2, 1, 1, 1)]
    assert timed(steps) == [(steps[1], 0.5)]


@pytest.mark.parametrize(
    "second",
    [step(1.5, 3, 1, 1, 1), step(1.5, 2, 1, 0, 9)],
    ids=["a line is missing", "nobody was left from the step before"],
)
def test_a_step_that_may_have_waited_is_not_timed(second: Step) -> None:
    assert timed([step(1.0, 1, 1, 0, 9), second]) == []


def test_the_costs_of_steps_are_found() -> None:
    costs = Costs(0.003, 0.0002, 0.00001)
    steps = [step(0.0, 0, n, n, k) for n, k in ((1, 1), (4, 90), (9, 9), (16, 300), (16, 16))]
    found = fitted([(one, costs.of(one.sequences, one.tokens)) for one in steps])
    assert (found.step, found.sequence, found.token) == pytest.approx((0.003, 0.0002, 0.00001))


def test_no_cost_is_below_zero() -> None:
    falling = [
        (step(0.0, 0, n, n, k), 1.0 - 0.01 * n + 0.001 * k) for n, k in ((1, 1), (4, 90), (9, 9))
    ]
    found = fitted(falling)
    assert found.sequence == 0.0
    assert min(found.step, found.token) >= 0.0


def test_what_steps_do_not_tell_apart_is_not_told_apart() -> None:
    alike = [(step(0.0, 0, n, n, n), 0.001 + 0.002 * n) for n in (1, 2, 3)]
    found = fitted(alike)
    assert found.of(8, 8) == pytest.approx(0.017)


def test_without_steps_nothing_is_fitted() -> None:
    with pytest.raises(ValueError, match="no step followed"):
        fitted([])
