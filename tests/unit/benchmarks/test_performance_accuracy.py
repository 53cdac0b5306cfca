from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO

import performance_accuracy as accuracy
import pytest
from rich.console import Console

from fitting import fit_performance
from fitting.performance_priors import FIXED, PRIORS
from fitting.performance_runs import DATA, Run, read_runs
from vllm_operator.hardware import performance as gpus

RUNS, LEFT_OUT = read_runs()
ONE = next(run for run in RUNS if run.tpot and run.throughput)


def pairs(*runs: Run) -> list[accuracy.Pair]:
    return [(run, run.predict()) for run in runs]


def exact(run: Run) -> accuracy.Pair:
    predicted = replace(
        run.predict(),
        inter_token_latency=run.tpot or 1.0,
        output_tokens_per_second=run.throughput or 1.0,
    )
    return run, predicted


@pytest.mark.parametrize("name", ["vllm_serving_benchmarks.csv", "vllm_startup_logs.csv"])
def test_every_gpu_that_the_data_names_has_its_figures(name: str):
    with (DATA.parent / name).open(encoding="utf-8", newline="") as file:
        named = {row["gpu_name"] for row in csv.DictReader(file)}
    assert [one for one in sorted(named) if gpus.find(one) is None] == []


def test_every_run_is_judged_or_left_out_with_a_reason():
    with DATA.open(encoding="utf-8", newline="") as file:
        number = len(list(csv.DictReader(file)))
    numbers = [run.number for run in RUNS] + [one.number for one in LEFT_OUT]
    assert sorted(numbers) == list(range(1, number + 1))
    assert all(one.reason for one in LEFT_OUT)


def test_a_model_is_held_out_with_its_quantised_siblings(monkeypatch: pytest.MonkeyPatch):
    unseen: list[set[str]] = []

    def fit(runs: list[Run], *, rounds: int) -> fit_performance.Values:
        unseen.append({run.model for run in RUNS} - {run.model for run in runs})
        return fit_performance.start()

    monkeypatch.setattr(fit_performance, "fit", fit)
    fit_performance.held_out(RUNS)
    assert {"Qwen/Qwen3-14B", "Qwen/Qwen3-14B-AWQ", "Qwen/Qwen3-14B-FP8"} in unseen
    assert sorted(model for models in unseen for model in models) == sorted(
        {run.model for run in RUNS}
    )


def test_what_is_predicted_exactly_has_no_error():
    found = accuracy.Accuracy.of(accuracy.time_ratios([exact(ONE)]))
    assert (found.quantile(0.5), found.bias) == (0, 0)


def test_the_quantile_lies_between_the_runs():
    found = accuracy.Accuracy.of([1.1, 0.8])
    assert found.quantile(0.5) == pytest.approx(0.15)
    assert found.bias == pytest.approx(-0.05)


def test_the_napkin_is_faster_than_any_run_was():
    assert max(accuracy.napkin_time_ratios(pairs(*RUNS))) < 1


def test_a_run_with_a_rate_has_no_more_throughput_on_the_napkin_than_it_asks_for():
    slow = replace(ONE, rate=0.01)
    assert slow.napkin_throughput == pytest.approx(0.01 * ONE.output)


def test_the_tables_name_every_model_and_fit_into_their_width():
    console = Console(width=accuracy.WIDTH, record=True, file=StringIO())
    groups = accuracy.grouped(pairs(*RUNS), lambda run: run.model)
    console.print(accuracy.accuracy_table("By model", groups))
    text = console.export_text()
    assert all(model.rpartition("/")[2] in text for model in groups)


def test_the_results_hold_the_napkin_beside_the_estimate():
    found = accuracy.results(pairs(ONE), LEFT_OUT)
    assert found["all"]["timePerToken"]["runs"] == 1
    assert found["all"]["napkin"]["timePerToken"]["bias"] < 0
    assert found["runs"][0]["napkinSecondsPerToken"] < found["runs"][0]["measuredSecondsPerToken"]


def test_every_coefficient_of_the_model_is_fitted_or_fixed():
    with fit_performance.TARGET.open(encoding="utf-8", newline="") as file:
        written = {(row["name"], row["generation"], row["link"]) for row in csv.DictReader(file)}
    assert written == {*PRIORS, *FIXED}


def test_a_fit_of_no_rounds_stays_where_it_starts():
    values = fit_performance.fit([ONE], rounds=0)
    assert values == fit_performance.start()
