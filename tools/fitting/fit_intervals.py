"""Calibrate the intervals beside an estimate on runs that its coefficients had not seen.

    PYTHONPATH=operator:tools python -m fitting.fit_intervals --write

Every run of ``benchmarks/data/vllm_serving_benchmarks.csv`` is predicted with coefficients fitted
on all other models, those of ``vllm_serving_benchmarks_unseen.csv`` with coefficients fitted on all
of the first. A figure's factor is the split-conformal quantile of its errors (Lei et al., 2018),
one for each kind of model: the smallest factor within which nine of ten runs lie, with one more.
A kind with few runs takes the factor of all kinds together.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import click

from fitting.fit_performance import TARGET, held_out
from fitting.performance_rows import UNSEEN, read_runs
from fitting.performance_runs import Run
from vllm_operator.sizing.performance.batch import PerformanceEstimate
from vllm_operator.sizing.performance.intervals import Figure, Kind

INTERVALS: Final = TARGET.with_name("intervals.csv")
KINDS: Final = get_args(Kind)
INSIDE: Final = 0.9
"""Share of runs that an interval holds."""
LEAST: Final = 20
"""Runs from which on a kind of model has a factor of its own."""
WIDER: Final = 1.25
"""Factor on top where no run judges the layout: assumed."""
LEAST_OUTPUT: Final = 16
"""Tokens of an output below which a burst is over before it is steady: such runs are judged, and
calibrate nothing."""

Pair = tuple[Run, PerformanceEstimate]


@dataclass(frozen=True, slots=True)
class Error:
    """One figure of one run that was predicted."""

    figure: Figure
    kind: str
    log: float
    """Natural logarithm of predicted over measured."""
    source: str


def errors_of(pairs: Iterable[Pair]) -> list[Error]:
    """The errors of every figure that was measured, of runs that last long enough.

    Time to the first token only where no request waits for a place: what is stated is the time of
    those that find one.
    """
    found = []
    for run, said in pairs:
        if run.output < LEAST_OUTPUT:
            continue
        known: list[tuple[Figure, float, float | None]] = [
            ("throughput", said.output_tokens_per_second, run.throughput),
            ("between", said.inter_token_latency, run.tpot),
            ("first", said.time_to_first_token, None if run.waits else run.first),
        ]
        found += [
            Error(figure, run.kind, math.log(predicted / measured), run.file)
            for figure, predicted, measured in known
            if measured
        ]
    return found


def factor(errors: Sequence[Error]) -> float:
    """The factor within which nine of ten lie, to either side."""
    sizes = sorted(abs(one.log) for one in errors)
    place = min(len(sizes), math.ceil((len(sizes) + 1) * INSIDE))
    return math.exp(sizes[place - 1])


def factors(errors: Iterable[Error]) -> dict[tuple[str, str], float]:
    """The factor of each figure and kind of model."""
    figures: dict[str, list[Error]] = defaultdict(list)
    for one in errors:
        figures[one.figure].append(one)
    found = {}
    for figure, all_kinds in sorted(figures.items()):
        for kind in KINDS:
            own = [one for one in all_kinds if one.kind == kind]
            found[figure, kind] = factor(own if len(own) >= LEAST else all_kinds)
    return found


@dataclass(frozen=True, slots=True)
class Calibration:
    """What intervals are worth on runs of sources that they were not calibrated on."""

    runs: int
    inside: float
    """Share of runs inside."""
    half_width: float
    """Median of half the interval over the figure."""


def calibration(errors: Sequence[Error], figure: str) -> Calibration:
    """Intervals calibrated on all other sources, source by source."""
    held, widths = 0, []
    some = [one for one in errors if one.figure == figure]
    for source in sorted({one.source for one in some}):
        others = factors(one for one in some if one.source != source)
        for one in some:
            if one.source == source:
                found = others[figure, one.kind]
                held += abs(one.log) <= math.log(found)
                widths.append((found - 1 / found) / 2)
    widths.sort()
    return Calibration(len(some), held / len(some), widths[len(widths) // 2])


def write(errors: Sequence[Error], path: Path = INTERVALS) -> None:
    """Write the data file."""
    found = factors(errors)
    numbers = Counter((one.figure, one.kind) for one in errors)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("figure", "kind", "factor", "runs", "source"))
        for key, value in found.items():
            source = (
                "tools/fitting/fit_intervals.py on runs of benchmarks/data/vllm_serving_benchmarks"
                "*.csv that the fit had not seen"
            )
            writer.writerow((*key, f"{value:.3f}", numbers[key], source))
        for figure in sorted({figure for figure, _ in found}):
            writer.writerow((figure, "unmeasured", WIDER, 0, "assumed; no run judges it"))


def predicted(rounds: int) -> list[Pair]:
    """Every run, predicted by coefficients that had not seen its model."""
    runs, _ = read_runs()
    unseen, _ = read_runs(UNSEEN)
    return held_out(runs, rounds=rounds) + held_out(unseen, rounds=rounds, others=runs)


@click.command()
@click.option("--rounds", default=8, help="Rounds of each fit.")
@click.option("--write/--no-write", "written", default=False, help="Write the data file.")
def main(rounds: int, written: bool) -> None:
    """Calibrate, and say what the intervals hold of sources that they have not seen."""
    errors = errors_of(predicted(rounds))
    for (figure, kind), value in factors(errors).items():
        click.echo(f"{figure:<12}{kind:<10}{value:.3f}")
    for figure in ("throughput", "between", "first"):
        known = calibration(errors, figure)
        click.echo(
            f"{figure:<12}{known.inside:.0%} of {known.runs} inside, "
            f"half-width {known.half_width:.0%}"
        )
    if written:
        write(errors)


if __name__ == "__main__":
    main()
