"""How close predicted times per token and throughputs come to published benchmark runs.

    PYTHONPATH=operator:tools python benchmarks/performance_accuracy.py

Cross-validated: every model is predicted with coefficients fitted on the runs of all other models
(a model's quantised siblings are held out with it). Prints tables, every run that is left out and
why, and writes build/benchmarks/performance_accuracy.json and a picture beside it. Target: a median
error of at most 15 % of the time per token and of the output throughput. The baseline, on a napkin,
is the peak bandwidth over what a full batch reads: weights once, and every request's KV cache.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from support_performance_learned import learned, learned_table
from support_performance_view import TARGET, Pair, left_out_table, picture, runs_table

from fitting.fit_intervals import calibration, errors_of
from fitting.fit_performance import HELD_OUT, held_out
from fitting.performance_rows import DATA, LeftOut, read_runs
from fitting.performance_runs import Run

WIDTH: Final = 118
"""Characters that the tables need; wider terminals are used."""
FIGURES: Final = {
    "throughput": "output tokens a second",
    "between": "time between tokens",
    "first": "time to the first token",
}
SHIPPED: Final = "nothing"
RESULT: Final = Path("build/benchmarks/performance_accuracy.json")


@dataclass(frozen=True)
class Accuracy:
    """Relative errors of one figure over some runs, sorted."""

    errors: tuple[float, ...]
    signed: tuple[float, ...]

    @classmethod
    def of(cls, ratios: Iterable[float]) -> Accuracy:
        """From predicted over measured."""
        signed = sorted(ratio - 1 for ratio in ratios)
        return cls(tuple(sorted(abs(one) for one in signed)), tuple(signed))

    def quantile(self, share: float) -> float:
        """The error that this share of the runs stays within (linear between runs)."""
        return _quantile(self.errors, share)

    @property
    def bias(self) -> float:
        """Median of predicted over measured, less one."""
        return _quantile(self.signed, 0.5)

    def to_json_object(self) -> dict[str, float | int]:
        """As it stands in the results."""
        if not self.errors:
            return {"runs": 0}
        return {
            "runs": len(self.errors),
            "median": round(self.quantile(0.5), 4),
            "p90": round(self.quantile(0.9), 4),
            "bias": round(self.bias, 4),
        }


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def time_ratios(pairs: Iterable[Pair]) -> list[float]:
    """Predicted over measured mean time per token."""
    return [found.inter_token_latency / run.tpot for run, found in pairs if run.tpot]


def throughput_ratios(pairs: Iterable[Pair]) -> list[float]:
    """Predicted over measured output tokens a second."""
    return [
        found.output_tokens_per_second / run.throughput for run, found in pairs if run.throughput
    ]


def first_token_ratios(pairs: Iterable[Pair]) -> list[float]:
    """Predicted over measured mean time to the first token, where no request waits for a place."""
    return [
        found.time_to_first_token / run.first for run, found in pairs if run.first and not run.waits
    ]


def napkin_time_ratios(pairs: Iterable[Pair]) -> list[float]:
    """Napkin over measured mean time per token."""
    return [run.napkin_seconds / run.tpot for run, _ in pairs if run.tpot]


def napkin_throughput_ratios(pairs: Iterable[Pair]) -> list[float]:
    """Napkin over measured output tokens a second."""
    return [run.napkin_throughput / run.throughput for run, _ in pairs if run.throughput]


def grouped(pairs: Iterable[Pair], key: Callable[[Run], str]) -> dict[str, list[Pair]]:
    """The runs by a property, sorted by its name."""
    groups: dict[str, list[Pair]] = defaultdict(list)
    for run, found in pairs:
        groups[key(run)].append((run, found))
    return dict(sorted(groups.items()))


def by_family(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """The runs by what their models are made of; a run stands in each of its families."""
    groups: dict[str, list[Pair]] = defaultdict(list)
    for run, found in pairs:
        for family in run.families:
            groups[family].append((run, found))
    return dict(sorted(groups.items()))


def interval_table(pairs: Sequence[Pair]) -> Table:
    """What intervals hold of sources that they were not calibrated on."""
    table = Table(title="Intervals, calibrated on all other sources")
    for name in ("figure", "runs", "inside", "half-width, median"):
        table.add_column(name, justify="left" if name == "figure" else "right", no_wrap=True)
    errors = errors_of(pairs)
    for figure, name in FIGURES.items():
        if any(one.figure == figure for one in errors):
            known = calibration(errors, figure)
            row = (str(known.runs), f"{known.inside:.0%}", f"{known.half_width:.0%}")
            table.add_row(name, *row)
    return table


def first_token_table(groups: dict[str, list[Pair]]) -> Table:
    """One line a group, of the time to the first token."""
    table = Table(title="Time to the first token, where no request waits for a place")
    table.add_column("", no_wrap=True)
    for name in ("runs", "median", "p90", "bias"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, pairs in groups.items():
        found = Accuracy.of(first_token_ratios(pairs))
        if found.errors:
            figures = (found.quantile(0.5), found.quantile(0.9))
            cells = (*(f"{one:.1%}" for one in figures), f"{found.bias:+.1%}")
            table.add_row(name, str(len(found.errors)), *cells)
    return table


def accuracy_table(title: str, groups: dict[str, list[Pair]]) -> Table:
    """One line a group."""
    table = Table(title=title)
    table.add_column("", no_wrap=True)
    table.add_column("runs", justify="right", no_wrap=True)
    for figure in ("TPOT", "tok/s"):
        for name in ("median", "p90", "bias", "napkin"):
            table.add_column(f"{figure}\n{name}", justify="right", no_wrap=True)
    for name, pairs in groups.items():
        cells: list[str] = []
        for ratios, napkin in (
            (time_ratios(pairs), napkin_time_ratios(pairs)),
            (throughput_ratios(pairs), napkin_throughput_ratios(pairs)),
        ):
            found = Accuracy.of(ratios)
            if not found.errors:
                cells += ["-"] * 4
                continue
            figures = (found.quantile(0.5), found.quantile(0.9))
            cells += [*(f"{one:.1%}" for one in figures), f"{found.bias:+.1%}"]
            cells.append(f"{Accuracy.of(napkin).quantile(0.5):.0%}")
        table.add_row(name.rpartition("/")[2], str(len(pairs)), *cells)
    table.caption = (
        "TPOT: mean time per token; tok/s: output throughput; median and p90 of the error, bias:"
        " median of predicted over measured, less one; napkin: median error of the napkin's figure"
    )
    return table


def results(pairs: Sequence[Pair], left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """Everything, for the JSON file."""

    def both(some: Sequence[Pair]) -> dict[str, Any]:
        return {
            "timePerToken": Accuracy.of(time_ratios(some)).to_json_object(),
            "outputThroughput": Accuracy.of(throughput_ratios(some)).to_json_object(),
            "timeToFirstToken": Accuracy.of(first_token_ratios(some)).to_json_object(),
            "napkin": {
                "timePerToken": Accuracy.of(napkin_time_ratios(some)).to_json_object(),
                "outputThroughput": Accuracy.of(napkin_throughput_ratios(some)).to_json_object(),
            },
        }

    return {
        "all": both(pairs),
        "byModel": {key: both(some) for key, some in grouped(pairs, lambda r: r.model).items()},
        "byGPU": {key: both(some) for key, some in grouped(pairs, lambda r: r.gpu_name).items()},
        "byFamily": {key: both(some) for key, some in by_family(pairs).items()},
        "target": TARGET,
        "runs": [
            {
                "run": run.number,
                "model": run.model,
                "gpu": run.gpu_name,
                "source": run.source,
                "measuredSecondsPerToken": run.tpot,
                "predictedSecondsPerToken": round(found.inter_token_latency, 6),
                "measuredTokensPerSecond": run.throughput,
                "predictedTokensPerSecond": round(found.output_tokens_per_second, 2),
                "idleSeconds": round(run.idle, 2),
                "napkinSecondsPerToken": round(run.napkin_seconds, 6),
                "napkinTokensPerSecond": round(run.napkin_throughput, 2),
            }
            for run, found in sorted(pairs, key=lambda pair: pair[0].number)
        ],
        "leftOut": [
            {"run": one.number, "model": one.model, "gpu": one.gpu_name, "reason": one.reason}
            for one in left_out
        ],
    }


@click.command()
@click.option(
    "--rows",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=DATA,
    help="Another file with the columns of the default one, to be judged in its place.",
)
@click.option(
    "--hold-out",
    type=click.Choice([*sorted(HELD_OUT), SHIPPED]),
    default="model",
    show_default=True,
    help="What the fit that predicts a run has not seen; nothing: the coefficients as shipped.",
)
@click.option("--rounds", default=8, show_default=True, help="Rounds of each fit.")
@click.option("--every/--summary", default=False, help="Print every run, not only groups.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def main(rows: Path, hold_out: str, rounds: int, every: bool, output: Path) -> None:
    """Judge the performance model; exit status 1 where a median misses the target."""
    console = Console()
    console.width = max(WIDTH, console.width)
    judged, left_out = read_runs(rows)
    if not judged:
        console.print(left_out_table(left_out))
        raise click.ClickException(f"no run of {rows} can be judged")
    others = [] if rows.resolve() == DATA.resolve() else read_runs(DATA)[0]
    if hold_out == SHIPPED:
        pairs = [(run, run.predict()) for run in judged]
    else:
        pairs = held_out(judged, by=hold_out, rounds=rounds, others=others)
    if every:
        console.print(runs_table(pairs))
    console.print(accuracy_table("By model", grouped(pairs, lambda run: run.model)))
    console.print(accuracy_table("By family", by_family(pairs)))
    console.print(accuracy_table("By GPU", grouped(pairs, lambda run: run.gpu_name)))
    console.print(accuracy_table("All runs", {f"held out by {hold_out}": pairs}))
    console.print(first_token_table({**by_family(pairs), "all": list(pairs)}))
    if len({run.file for run, _ in pairs}) > 1:
        console.print(interval_table(pairs))
    console.print(learned_table(pairs))
    console.print(left_out_table(left_out))
    console.print(f"{len(pairs)} runs judged, {len(left_out)} left out")
    output.parent.mkdir(parents=True, exist_ok=True)
    after = {one.figure: one.to_json_object() for one in learned(pairs)}
    found = {**results(pairs, left_out), "heldOutBy": hold_out, "measuredUnderAnotherLoad": after}
    output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    output.with_suffix(".svg").write_text(picture(pairs), encoding="utf-8")
    medians = [
        found["all"][figure].get("median", 0.0) for figure in ("timePerToken", "outputThroughput")
    ]
    sys.exit(int(max(medians) > TARGET))


if __name__ == "__main__":
    main()
