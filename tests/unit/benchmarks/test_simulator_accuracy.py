"""What compares the simulator with the real engine."""

from __future__ import annotations

import pytest
import simulator_accuracy

from enginesimulator.engine import Request


def test_metrics_are_summed_over_their_labels_without_buckets() -> None:
    text = """# HELP vllm:request_success_total requests
vllm:request_success_total{engine="0",finished_reason="stop"} 2.0
vllm:request_success_total{engine="0",finished_reason="length"} 3.0
vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.3"} 9.0
vllm:e2e_request_latency_seconds_sum{engine="0"} 1.5
"""
    assert simulator_accuracy.read(text) == {
        "vllm:request_success_total": 5.0,
        "vllm:e2e_request_latency_seconds_sum": 1.5,
    }


def test_seconds_a_step_and_a_token_are_fitted() -> None:
    points = [(tokens, 0.01 + 0.002 * tokens) for tokens in (4.0, 9.0, 16.0)]
    assert simulator_accuracy.fitted(points) == pytest.approx((0.01, 0.002))


@pytest.mark.parametrize(
    ("points", "fitted"),
    [([(1.0, 0.3), (2.0, 0.1)], (0.2, 0.0)), ([(1.0, 0.0), (3.0, 1.0)], (0.0, 0.25))],
)
def test_neither_is_below_zero(
    points: list[tuple[float, float]], fitted: tuple[float, float]
) -> None:
    assert simulator_accuracy.fitted(points) == pytest.approx(fitted)


def test_the_simulated_run_lasts_until_the_last_answer() -> None:
    requests = [Request(0.0, 10, 5), Request(0.0, 10, 5)]
    alone = simulator_accuracy.simulated(1, requests, 0.1, 0.0)
    assert alone.seconds == pytest.approx(1.0)
    assert (alone.batch, alone.gap) == (pytest.approx(0.8), pytest.approx(0.1))
    together = simulator_accuracy.simulated(2, requests, 0.1, 0.0)
    assert together.tokens == pytest.approx(20.0)
