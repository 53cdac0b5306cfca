"""Fit the coefficients of the performance model to published benchmark runs.

    PYTHONPATH=operator:tools python -m fitting.fit_performance --write

Reads ``benchmarks/data/vllm_serving_benchmarks.csv`` and writes
``operator/vllm_operator/sizing/performance/coefficients.csv``. Coordinate descent on the mean
absolute logarithm of predicted over measured, every model with the same weight, with a pull
towards what is commonly measured, so that a coefficient that no run tells about keeps that value.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from fitting.performance_priors import FIXED, PRIORS
from fitting.performance_rows import DATA, ROOT, read_runs
from fitting.performance_runs import Run
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.sizing.performance.batch import PerformanceEstimate
from vllm_operator.sizing.performance.coefficients import Coefficients, choose

TARGET: Final = ROOT / "operator" / "vllm_operator" / "sizing" / "performance" / "coefficients.csv"
OUTLIER: Final = 0.5
"""Errors (in logarithms) beyond this one count no more: such runs have causes of their own."""
PULL: Final = 0.03
"""How much a coefficient that is off its start by its spread adds to the mean error."""
Values = dict[tuple[str, str, str], float]


def coefficients(values: Values, gpu: GPUPerformance) -> Coefficients:
    """The coefficients that hold on ``gpu``."""
    rows = ((*key, value) for key, value in values.items())
    return choose(rows, gpu.generation, gpu.link)


def errors(run: Run, found: Coefficients) -> list[float]:
    """Logarithms of predicted over measured: time per token, then throughput."""
    predicted = run.predict(found)
    logs = []
    if run.tpot:
        logs.append(math.log(predicted.inter_token_latency / run.tpot))
    if run.throughput:
        logs.append(math.log(predicted.output_tokens_per_second / run.throughput))
    return logs


def start() -> Values:
    """Every coefficient at its prior."""
    return {key: prior.value for key, prior in (*PRIORS.items(), *FIXED.items())}


def fit(runs: Sequence[Run], *, rounds: int = 8, pull: float = PULL) -> Values:
    """Coordinate descent in the logarithms of the coefficients."""
    values = start()
    numbers = Counter(run.model for run in runs)
    weights = [1 / math.sqrt(numbers[run.model]) for run in runs]
    total = sum(weights)

    def loss(candidate: Values) -> float:
        cache: dict[int, Coefficients] = {}
        summed = 0.0
        for run, weight in zip(runs, weights, strict=True):
            found = cache.get(id(run.gpu))
            if found is None:
                found = cache[id(run.gpu)] = coefficients(candidate, run.gpu)
            logs = errors(run, found)
            summed += weight * sum(min(abs(log), OUTLIER) for log in logs) / len(logs)
        pulled = sum(
            (math.log(candidate[key] / prior.value) / math.log(prior.spread)) ** 2
            for key, prior in PRIORS.items()
        )
        return summed / total + pull * pulled / len(PRIORS)

    return _descend(values, loss, rounds)


def _descend(values: Values, loss: Callable[[Values], float], rounds: int) -> Values:
    best = loss(values)
    steps = {key: math.log(prior.spread) / 2 for key, prior in PRIORS.items()}
    for _ in range(rounds):
        for key in PRIORS:
            moved = False
            for sign in (1, -1):
                candidate = {**values, key: values[key] * math.exp(sign * steps[key])}
                found = loss(candidate)
                if found < best:
                    values, best, moved = candidate, found, True
                    break
            steps[key] *= 1.3 if moved else 0.5
    return values


HELD_OUT: Final[Mapping[str, Callable[[Run], str]]] = {
    "model": lambda run: run.base,
    "gpu": lambda run: run.gpu.name,
    "publisher": lambda run: run.publisher,
    "source": lambda run: run.file,
}
"""What runs are held out by."""


def held_out(
    runs: Sequence[Run], *, by: str = "model", rounds: int = 8, others: Sequence[Run] = ()
) -> list[tuple[Run, PerformanceEstimate]]:
    """Every run predicted with coefficients fitted on all other models (GPUs, publishers).

    ``others`` are fitted on where they are given, ``runs`` themselves otherwise.
    """
    key = HELD_OUT[by]
    predicted = []
    fitted: dict[tuple[int, ...], Values] = {}
    for group in sorted({key(run) for run in runs}):
        seen = [run for run in others or runs if key(run) != group]
        numbers = tuple(run.number for run in seen)
        values = fitted[numbers] = fitted.get(numbers) or fit(seen, rounds=rounds)
        predicted += [
            (run, run.predict(coefficients(values, run.gpu))) for run in runs if key(run) == group
        ]
    return predicted


def write(values: Values, runs: Iterable[Run], path: Path = TARGET) -> None:
    """Write the data file."""
    number = len(list(runs))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "generation", "link", "since", "until", "value", "unit", "source"))
        for key, value in values.items():
            prior = PRIORS.get(key) or FIXED[key]
            source = prior.source or (
                f"tools/fitting/fit_performance.py on {number} runs of benchmarks/data/{DATA.name}"
                f", from {prior.value:g}"
            )
            writer.writerow((*key, "0.8.0", "", f"{value:.4g}", prior.unit, source))


@click.command()
@click.option("--rows", type=click.Path(path_type=Path, exists=True), default=DATA)
@click.option("--rounds", default=8, help="Rounds of the descent.")
@click.option("--write/--no-write", "written", default=False, help="Write the data file.")
def main(rows: Path, rounds: int, written: bool) -> None:
    """Fit on all runs and print the coefficients."""
    runs, left_out = read_runs(rows)
    values = fit(runs, rounds=rounds)
    for key, value in values.items():
        click.echo(f"{' '.join(filter(None, key)):<44}{value:.4g}")
    click.echo(f"{len(runs)} runs, {len(left_out)} left out")
    if written:
        write(values, runs)


if __name__ == "__main__":
    main()
