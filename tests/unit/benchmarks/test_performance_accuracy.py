from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import performance_accuracy as accuracy
import pytest
from click.testing import CliRunner
from rich.console import Console

from fitting import fit_intervals, fit_performance, performance_rows
from fitting.fit_intervals import Error
from fitting.performance_priors import FIXED, PRIORS
from fitting.performance_rows import DATA, read_runs
from fitting.performance_runs import Run
from vllm_operator.hardware import performance as gpus

RUNS, LEFT_OUT = read_runs()
UNSEEN, _ = read_runs(performance_rows.UNSEEN)
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


def test_with_nothing_held_out_the_coefficients_are_those_that_ship(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(accuracy, "read_runs", lambda _path: ([ONE], []))
    monkeypatch.setattr(accuracy, "held_out", None)
    written = tmp_path / "found.json"
    CliRunner().invoke(accuracy.main, ["--hold-out", "nothing", "--output", str(written)])
    (found,) = json.loads(written.read_text())["runs"]
    assert found["predictedSecondsPerToken"] == round(ONE.predict().inter_token_latency, 6)


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


def run_of(model: str, **given: object) -> Run:
    return next(
        run
        for run in (*RUNS, *UNSEEN)
        if run.model.endswith(model) and all(getattr(run, k) == v for k, v in given.items())
    )


@pytest.mark.parametrize(
    ("model", "families"),
    [
        ("Qwen3-14B-AWQ", ("dense", "weights: awq")),
        ("DeepSeek-V3.2", ("many small experts", "sparse attention", "weights: fp8")),
        ("DeepSeek-R1-0528", ("many small experts", "latent attention", "weights: fp8")),
        ("gpt-oss-20b", ("few experts", "weights: mxfp4")),
    ],
)
def test_a_run_stands_for_the_families_of_its_model(model: str, families: tuple[str, ...]):
    assert run_of(model).families == families


def test_experts_that_were_whole_on_each_rank_are_predicted_so():
    assert {run.number for run in RUNS if run.split.expert} == {51, 58, 92, 94}


def test_outputs_that_ended_early_are_as_long_as_what_was_made():
    assert run_of("Kimi-K2-Thinking").output == pytest.approx(389.6, abs=0.5)


def test_prompts_of_a_random_data_set_have_outputs_of_one_length():
    assert {run.varied for run in RUNS if run.model == "Qwen/Qwen2-72B"} == {False}
    assert {run.varied for run in RUNS if "V3.2" in run.model and run.prompt < 300} == {True, False}


def test_what_was_drafted_is_not_judged():
    reasons = {one.number: one.reason for one in LEFT_OUT}
    assert reasons[135] == "speculative decoding, not told how many drafts were taken"


def test_seconds_in_which_nothing_was_served_are_no_time_of_the_engine():
    slow = run_of("DeepSeek-R1-0528", requests=1000, output=4.0)
    assert slow.idle == pytest.approx(16.54, abs=0.01)
    assert slow.throughput == pytest.approx(4000 / (22.07 - 16.54), rel=0.01)


def test_first_tokens_that_came_before_the_arithmetic_was_done_tell_of_a_cache():
    # 20 prompts of 1,023 tokens: 310 TFLOP, a second of an A100, and the mean came after 0.2 s.
    assert [run.first for run in RUNS if run.number in (18, 19)] == [
        pytest.approx(0.4921, abs=0.05),
        None,
    ]


def test_first_tokens_of_prompts_that_were_cached_by_the_log_are_not_read():
    # 20 and 30 prompts at once, of which the log has 41 % and 53 % in the cache; 10 with 9 %.
    assert [run.first for run in RUNS if run.number in (9, 10)] == [None, None]
    assert [run.first is None for run in RUNS if run.number == 8] == [False]


def test_those_that_begin_a_closed_loop_wait_for_one_another():
    run = run_of("Qwen3.5-9B")
    burst = replace(run, requests=512, concurrency=math.inf).predict()
    alone = replace(run, requests=10**6).predict()
    share = run.concurrency / run.requests
    assert run.predict().time_to_first_token == pytest.approx(
        share * burst.time_to_first_token + (1 - share) * alone.time_to_first_token, rel=0.05
    )


def test_no_run_whose_requests_wait_for_places_has_idle_seconds():
    assert [run.number for run in RUNS if run.waits and run.idle] == []


def test_the_newer_sources_have_no_run_in_common_with_those_that_are_fitted():
    assert {run.file for run in UNSEEN}.isdisjoint({run.file for run in RUNS})
    assert len({run.model for run in UNSEEN} - {run.model for run in RUNS}) == 7


def error(log: float, source: str = "a") -> Error:
    return Error("between", "dense", log, source)


def test_nine_of_ten_errors_lie_within_the_factor():
    errors = [error(0.01 * number) for number in range(1, 20)]
    assert fit_intervals.factor(errors) == pytest.approx(math.exp(0.18))


def test_a_kind_with_few_runs_has_the_factor_of_all():
    few = [Error("between", "latent", 2.0, "b")] * 3
    found = fit_intervals.factors([error(0.01 * number) for number in range(100)] + few)
    assert found["between", "dense"] == pytest.approx(math.exp(0.9), rel=0.01)
    assert found["between", "latent"] == found["between", "experts"] < 2.7


def test_intervals_are_judged_on_sources_that_they_were_not_calibrated_on():
    errors = [error(0.1, "a")] * 20 + [error(0.3, "b")] * 5
    known = fit_intervals.calibration(errors, "between")
    assert (known.runs, known.inside) == (25, 0.8)


def test_the_intervals_that_ship_know_every_figure_and_kind():
    with fit_intervals.INTERVALS.open(encoding="utf-8", newline="") as file:
        known = {(row["figure"], row["kind"]) for row in csv.DictReader(file)}
    kinds = ("dense", "experts", "latent", "unmeasured")
    figures = ("throughput", "between", "first")
    assert known == {(figure, kind) for figure in figures for kind in kinds}
