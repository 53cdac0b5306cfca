"""What compares the simulator with the real engine."""

from __future__ import annotations

import pytest
import simulator_accuracy
from support_steps import Costs

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


def test_a_run_is_told_by_the_metrics_of_its_seconds() -> None:
    total = {
        "vllm:generation_tokens_total": 300.0,
        "vllm:iteration_tokens_total_count": 50.0,
        "vllm:inter_token_latency_seconds_count": 200.0,
        "vllm:inter_token_latency_seconds_sum": 4.0,
        "vllm:num_preemptions_total": 3.0,
    }
    found = simulator_accuracy.measured(total, 10.0)
    assert found == simulator_accuracy.Measured(10.0, 30.0, 4.0, 0.02, 3.0)


def test_the_simulated_run_lasts_until_the_last_answer() -> None:
    requests = [Request(0.0, 10, 5), Request(0.0, 10, 5)]
    alone = simulator_accuracy.simulated(1, requests, Costs(0.1, 0.0, 0.0))
    assert alone.seconds == pytest.approx(1.0)
    assert (alone.batch, alone.gap) == (pytest.approx(0.8), pytest.approx(0.1))
    together = simulator_accuracy.simulated(2, requests, Costs(0.1, 0.0, 0.0))
    assert together.tokens == pytest.approx(20.0)


def test_sequences_and_tokens_take_time_beside_the_step() -> None:
    one = [Request(0.0, 10, 3)]
    costs = Costs(0.1, 0.01, 0.001)
    # A step with the prompt, two with a token.
    assert simulator_accuracy.simulated(1, one, costs).seconds == pytest.approx(0.12 + 2 * 0.111)


def test_a_figure_is_judged_by_the_mean_of_its_runs() -> None:
    requests = [Request(0.0, 10, 5)]
    costs = Costs(0.1, 0.0, 0.0)
    did = [simulator_accuracy.Measured(0.5, tokens, 0.8, 0.1, 0.0) for tokens in (8.0, 12.0)]
    runs = [simulator_accuracy.Run(4, one, []) for one in did]
    rows = simulator_accuracy.judged(runs, requests, costs, fitted_at=16)
    assert rows[0] == {
        "maxNumSeqs": 4,
        "figure": "tokens",
        "engine": 10.0,
        "least": 8.0,
        "most": 12.0,
        "simulator": pytest.approx(10.0),
        "error": pytest.approx(0.0),
        "target": 0.10,
    }


def test_the_setting_that_is_fitted_is_not_judged() -> None:
    run = simulator_accuracy.Run(16, simulator_accuracy.Measured(1.0, 1.0, 1.0, 1.0, 0.0), [])
    rows = simulator_accuracy.judged([run], [Request(0.0, 1, 2)], Costs(0.1, 0.0, 0.0), 16)
    assert {row["target"] for row in rows} == {None}
