"""How well the memory model foretells real starts of vLLM, beside what other planners publish.

    PYTHONPATH=operator:tools python benchmarks/memory_accuracy.py

Each start whose log was published is planned with everything pinned as it ran, and the plan's KV
cache is compared with the one that vLLM found. Coefficients are fitted afresh for each of ten folds
on the starts of other sources only (``--in-sample`` takes them as they stand). Prints tables and
writes build/benchmarks/memory_accuracy.json and .svg.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from support_forecasts import Forecast, forecast
from support_logs import LOGS, Class, classify, read_rows
from support_memory_view import TARGETS, picture, show
from support_planners import packages, peers
from support_starts import LoggedStart
from support_summary import groups, minor_version, model_family, moved, residuals, summary

from vllm_operator.sizing.memory import coefficients

FOLDS: Final = 10
RESULT: Final = Path("build/benchmarks/memory_accuracy.json")
PICTURE: Final = RESULT.with_suffix(".svg")

Fit = Callable[[Sequence[LoggedStart]], str]
Use = Callable[[str], AbstractContextManager[Any]]


def folds(starts: Sequence[LoggedStart], count: int, seed: int) -> list[list[LoggedStart]]:
    """The starts in ``count`` parts of about one size; no source stands in two of them."""
    by_source: dict[str, list[LoggedStart]] = {}
    for start in starts:
        by_source.setdefault(start.source, []).append(start)
    sources = sorted(by_source)
    random.Random(seed).shuffle(sources)
    sources.sort(key=lambda source: -len(by_source[source]))
    parts: list[list[LoggedStart]] = [[] for _ in range(count)]
    for source in sources:
        min(parts, key=len).extend(by_source[source])
    return [part for part in parts if part]


def cross_validated(starts: Sequence[LoggedStart], fit: Fit, use: Use, seed: int) -> list[Forecast]:
    """Forecasts of every start, each by coefficients that no start of its source went into."""
    found: dict[str, Forecast] = {}
    for part in folds(starts, FOLDS, seed):
        held_out = {start.source for start in part}
        with use(fit([start for start in starts if start.source not in held_out])):
            found |= {start.id: forecast(start) for start in part}
    return [found[start.id] for start in starts]


def fitting() -> tuple[Fit, Use]:
    """The project's fitting script; raises ``ClickException`` where it is missing."""
    try:
        module = importlib.import_module("fitting.fit_memory")
        fit: Fit = module.fit
        use: Use = vars(coefficients)["use"]
    except (ImportError, AttributeError, KeyError) as problem:
        raise click.ClickException(
            "tools/fitting/fit_memory.py or coefficients.use is missing; "
            "give --in-sample to take the coefficients as they stand"
        ) from problem
    return fit, use


def _row(one: Forecast, reason: str = "") -> dict[str, Any]:
    start = {name: value for name, value in asdict(one.start).items() if value not in (None, "")}
    compared = {"error": one.error, "short": one.short, "broken": one.broken} if one.scored else {}
    return {
        **start,
        "reason": reason,
        "problem": one.problem,
        "refused": one.refused,
        "unit": one.unit,
        "expected": one.expected,
        "low": one.low,
        "measured": one.measured,
        "forecastWeightsGiB": one.weights_gib,
        **compared,
    }


@click.command()
@click.option(
    "--rows",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=LOGS,
    help="Logged starts to score, another file of the same columns.",
)
@click.option("--in-sample", is_flag=True, help="Take the coefficients as they stand.")
@click.option("--seed", default=1, show_default=True, help="Seed of the division into folds.")
@click.option(
    "--packages",
    "ask_packages",
    is_flag=True,
    help="Ask other planners' own packages, too: installs them once, each apart.",
)
def main(file: Path, in_sample: bool, seed: int, ask_packages: bool) -> None:
    """Score the memory model on logged starts; exit status 1 where a target is missed."""
    classified = classify(read_rows(file))
    starts = [one.start for one in classified if one.kind is Class.SCORED and one.start]
    if in_sample:
        found = [forecast(start) for start in starts]
    else:
        found = cross_validated(starts, *fitting(), seed)
    total = summary(found)
    results = {
        "coefficients": "coefficients as they stand" if in_sample else "cross-validated by source",
        "summary": total,
        "targets": TARGETS,
        "byModel": groups(found, model_family),
        "byGPU": groups(found, lambda start: start.gpu_family),
        "byVersion": groups(found, minor_version),
        "residualGiB": residuals(found),
        "movedGiB": moved(found),
        "byEngine": groups(found, lambda start: start.engine),
        "peers": peers(found),
        "packages": packages(found) if ask_packages else None,
        "starts": [_row(one) for one in found],
        "apart": [
            _row(forecast(one.start), one.reason)
            for one in classified
            if one.kind is Class.APART and one.start
        ],
        "leftOut": {one.id: one.reason for one in classified if one.kind is Class.LEFT_OUT},
    }
    show(Console(), classified, results)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    PICTURE.write_text(picture(found), encoding="utf-8")
    missed = [name for name, limit in TARGETS.items() if (total[name] or 0.0) > limit]
    sys.exit(int(bool(missed) or total["compared"] == 0))


if __name__ == "__main__":
    main()
